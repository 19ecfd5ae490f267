//! Which records of an index match a condition, and which have the words of a query.

use std::ops::{Bound, Range};

use roaring::{MultiOps, RoaringBitmap};

use super::filter::{is_same_facet, unwrap, Comparison, Condition, Kind, Test};
use super::index::Index;
use super::postings::{bucket, Column, SPAN};
use super::record::{any, to_thousandths, Record};

impl Condition {
    /// The numbers of the records it holds for.
    pub(super) fn matching(&self, index: &Index) -> RoaringBitmap {
        let mut found = index.records.all().clone();
        for clause in &self.0 {
            let mut either = RoaringBitmap::new();
            for test in clause {
                either |= test.matching(index);
            }
            found &= either;
        }
        found
    }
}

impl Test {
    fn matching(&self, index: &Index) -> RoaringBitmap {
        if !self.is_declared(&index.settings) {
            return RoaringBitmap::new();
        }
        let found = match &self.kind {
            Kind::Facet(wanted) if self.attribute == "objectID" => {
                index.records.number_of(wanted).into_iter().collect()
            }
            Kind::Facet(wanted) => self.with_facet(index, wanted),
            Kind::Range(low, high) => {
                self.between(index, *low, *high, |number, low, high| low <= number && number <= high)
            }
            Kind::Number(comparison, wanted) => self.compared(index, *comparison, *wanted),
        };
        if self.negated {
            index.records.all() - found
        } else {
            found
        }
    }

    fn with_facet(&self, index: &Index, wanted: &str) -> RoaringBitmap {
        index.records.facets(&self.attribute, |column| {
            let mut found = RoaringBitmap::new();
            for ((text, _), numbers) in column {
                if is_same_facet(text, wanted) {
                    found |= numbers;
                }
            }
            found
        })
    }

    fn compared(&self, index: &Index, comparison: Comparison, wanted: f64) -> RoaringBitmap {
        let (least, most) = (f64::NEG_INFINITY, f64::INFINITY);
        match comparison {
            Comparison::Less => self.between(index, least, wanted, |number, _, high| number < high),
            Comparison::LessOrEqual => self.between(index, least, wanted, |number, _, high| number <= high),
            Comparison::Equal => self.between(index, wanted, wanted, |number, low, _| number == low),
            Comparison::GreaterOrEqual => self.between(index, wanted, most, |number, low, _| number >= low),
            Comparison::Greater => self.between(index, wanted, most, |number, low, _| number > low),
            Comparison::NotEqual => {
                self.compared(index, Comparison::Less, wanted)
                    | self.compared(index, Comparison::Greater, wanted)
            }
        }
    }

    /// The records with a number that is accepted; whatever lies between `low` and `high` and in no bucket with either is.
    fn between(
        &self,
        index: &Index,
        low: f64,
        high: f64,
        accepts: fn(f64, f64, f64) -> bool,
    ) -> RoaringBitmap {
        let (first, last) = (bucket(low), bucket(high));
        let (mut found, mut doubtful) = (RoaringBitmap::new(), RoaringBitmap::new());
        if first > last {
            return found;
        }
        index.records.numbers(&self.attribute, |buckets, spans| {
            for end in [first, last] {
                doubtful |= buckets.get(&end).unwrap_or(&RoaringBitmap::new());
            }
            if first < last {
                found = whole(first + 1..last, buckets, spans);
            }
        });
        let (low, high) = (to_thousandths(low), to_thousandths(high));
        for number in doubtful - &found {
            let fits = index.records.numbered(number).is_some_and(|(_, record)| {
                any_number(record, &self.attribute, |number| accepts(number, low, high))
            });
            if fits {
                found.insert(number);
            }
        }
        found
    }
}

/// The records with a number in these buckets.
fn whole(wanted: Range<i64>, buckets: &Column<i64>, spans: &Column<i64>) -> RoaringBitmap {
    let inner = (wanted.start + SPAN - 1).div_euclid(SPAN)..wanted.end.div_euclid(SPAN);
    if inner.start >= inner.end {
        return buckets.range(wanted).map(|(_, numbers)| numbers).union();
    }
    let before = buckets.range(wanted.start..inner.start * SPAN);
    let after = buckets.range(inner.end * SPAN..wanted.end);
    before.chain(spans.range(inner)).chain(after).map(|(_, numbers)| numbers).union()
}

fn any_number(record: &Record, attribute: &str, accepts: impl Fn(f64) -> bool) -> bool {
    any(record, attribute, &mut |value| value.as_f64().is_some_and(|number| accepts(to_thousandths(number))))
}

/// The records that have all the words somewhere in what is searched; the last word may be the beginning of one.
pub(super) fn with_words(index: &Index, wanted: &[String], searchable: Option<&[String]>) -> RoaringBitmap {
    let paths: Vec<&str> = match searchable {
        None => vec![""],
        Some(names) => names.iter().flat_map(|entry| entry.split(',')).map(|name| unwrap(name).1).collect(),
    };
    let mut found = index.records.all().clone();
    for (place, word) in wanted.iter().enumerate() {
        let is_last = place + 1 == wanted.len();
        let mut having = RoaringBitmap::new();
        for path in &paths {
            index.records.words(path, |column| {
                let from_word = (Bound::Included(word.as_str()), Bound::Unbounded);
                for (own, numbers) in column.range::<str, _>(from_word) {
                    if !(own == word || (is_last && own.starts_with(word.as_str()))) {
                        break;
                    }
                    having |= numbers;
                }
            });
        }
        found &= having;
    }
    found
}
