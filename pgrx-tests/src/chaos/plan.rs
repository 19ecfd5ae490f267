//! The plan of a chaos run, which a seed determines: every transaction of every writer down to the ids of its rows, and
//! which trouble comes after how many of them. It does not determine exactly when things happen.

mod trouble;

use fastrand::Rng;

use super::author::Author;
use super::transactions::Step;
pub use trouble::{Answer, ProxyAnswer, Trouble};

/// The ids of each writer begin at a multiple of this.
pub(super) const IDS: i64 = 1_000_000_000;

/// The plan of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Whether the index names the record that it refuses. If not, the worker has to search for it.
    pub names_offenders: bool,
    pub writers: Vec<Vec<Step>>,
    /// Each trouble with the number of finished transactions after which it is made, in order.
    pub troubles: Vec<(u64, Trouble)>,
}

impl Plan {
    /// The plan that a seed determines for this many writers with this many transactions each.
    pub fn new(seed: u64, writers: usize, steps: usize) -> Plan {
        let mut seeds = Rng::with_seed(seed);
        let names_offenders = seeds.bool();
        let writers: Vec<Vec<Step>> = (1..=writers)
            .map(|number| {
                let dice = Rng::with_seed(seeds.u64(..));
                let mut author = Author::new(dice, number as i64 * IDS);
                (0..steps).map(|_| author.step()).collect()
            })
            .collect();
        let total = (writers.len() * steps) as u64;
        let mut dice = Rng::with_seed(seeds.u64(..));
        let mut times: Vec<u64> = (0..(steps / 3).max(8)).map(|_| dice.u64(0..=total * 95 / 100)).collect();
        times.sort_unstable();
        let troubles = times.into_iter().map(|at| (at, trouble::draw(&mut dice))).collect();
        Plan { names_offenders, writers, troubles }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use strum::VariantArray;

    use super::super::partitions::Ddl;
    use super::super::tables::CHANGING;
    use super::super::transactions::{Action, End, Size};
    use super::*;

    #[test]
    fn a_seed_decides_the_plan() {
        assert_eq!(Plan::new(7, 3, 50), Plan::new(7, 3, 50));
        assert_ne!(Plan::new(7, 3, 50), Plan::new(8, 3, 50));
    }

    #[test]
    fn troubles_come_in_order_and_before_the_end() {
        let plan = Plan::new(1, 4, 200);
        assert!(plan.troubles.is_sorted_by_key(|(at, _)| *at));
        assert!(plan.troubles.iter().all(|(at, _)| *at <= 760));
        assert!(plan.troubles.len() >= 50);
    }

    #[test]
    fn every_kind_of_trouble_occurs() {
        let plan = Plan::new(3, 4, 1000);
        let kinds: HashSet<_> =
            plan.troubles.iter().map(|(_, trouble)| std::mem::discriminant(trouble)).collect();
        assert_eq!(kinds.len(), 22);
        let ddl: HashSet<_> = plan
            .troubles
            .iter()
            .filter_map(|(_, trouble)| match trouble {
                Trouble::Partition(ddl, _) => Some(*ddl),
                _ => None,
            })
            .collect();
        assert_eq!(ddl.len(), Ddl::VARIANTS.len());
    }

    #[test]
    fn every_kind_of_transaction_occurs() {
        let plan = Plan::new(3, 4, 1000);
        let steps = || plan.writers.iter().flatten();
        let ends: HashSet<_> = steps().map(|step| std::mem::discriminant(&step.end)).collect();
        let actions: HashSet<_> =
            steps().flat_map(|step| &step.actions).map(std::mem::discriminant).collect();
        let works: HashSet<_> = steps()
            .flat_map(|step| &step.actions)
            .filter_map(|action| match action {
                Action::Change(_, work) => Some(std::mem::discriminant(work)),
                _ => None,
            })
            .collect();
        assert_eq!((ends.len(), actions.len(), works.len()), (4, 6, 4));
        let sizes = |wanted: Size| {
            let inserts = steps().flat_map(|step| &step.actions);
            inserts.filter(|action| matches!(action, Action::Insert(rows) if rows.size == wanted)).count()
        };
        assert!(sizes(Size::Big) > 0);
        // Each takes a moment.
        let (huge, all) = (sizes(Size::Huge), steps().count());
        assert!(huge > 0 && huge < all / 50, "{huge} of {all}");
    }

    #[test]
    fn savepoints_are_closed_and_no_id_is_used_twice() {
        let plan = Plan::new(5, 3, 300);
        let mut ids = HashSet::new();
        for step in plan.writers.iter().flatten() {
            let mut open = 0;
            for action in &step.actions {
                match action {
                    Action::Savepoint => open += 1,
                    Action::Release | Action::RollBackTo => open -= 1,
                    Action::Insert(rows) | Action::Copy(rows) => {
                        assert!((rows.first..rows.first + rows.count).all(|id| ids.insert(id)));
                        assert!(rows.poison.is_none_or(|id| ids.contains(&id)));
                    }
                    Action::Change(rows, _) => {
                        assert!(rows.table >= CHANGING);
                        assert!((rows.first..rows.first + rows.count).all(|id| ids.contains(&id)));
                    }
                }
                assert!(open >= 0);
            }
            assert_eq!(open, 0);
        }
    }
    /// Otherwise a writer would wait for locks of its own prepared transaction.
    #[test]
    fn nobody_touches_what_is_being_prepared() {
        let plan = Plan::new(5, 3, 300);
        let mut changes = 0;
        for steps in &plan.writers {
            let mut prepared = HashSet::new();
            for step in steps {
                let rows = step.actions.iter().filter_map(|action| match action {
                    Action::Insert(rows) | Action::Copy(rows) | Action::Change(rows, _) => Some(rows),
                    _ => None,
                });
                let ids: Vec<i64> = rows.flat_map(|rows| rows.first..rows.first + rows.count).collect();
                assert!(ids.iter().all(|id| !prepared.contains(id)));
                changes += step.actions.iter().filter(|one| matches!(one, Action::Change(..))).count();
                if matches!(step.end, End::Prepare(..)) {
                    prepared.extend(ids);
                }
            }
        }
        assert!(changes > 100, "{changes}");
    }
}
