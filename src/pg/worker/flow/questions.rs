//! Questions of sessions, out of the mailbox: asked by a sender, answered piece by piece.
//!
//! They take no room from the records that are delivered, for there are a few at most.

use std::collections::hash_map::Entry;

use super::Flow;
use crate::delivery::question::{Question, Reply, Trouble, TroubleKind};
use crate::delivery::sender_pool::SenderPool;
use crate::mailbox::Given;
use crate::pg::shmem;

/// So many questions one worker has at a time. Those that nobody waits for any more count until they are back.
const MOST: usize = 8;

/// How far a question is that this worker has taken.
pub(super) enum Asked {
    UnderWay,
    /// The answer, and how much of it has been given.
    Answered {
        answer: Vec<u8>,
        given: usize,
    },
}

impl Flow {
    /// Takes questions, unless the worker is about to go, and goes on answering.
    pub(super) fn answer_questions(&mut self, retire: bool) {
        self.give_answers();
        while !retire && self.asked.len() < MOST {
            let Some((ticket, question)) =
                shmem::mailbox().and_then(|mut mailbox| mailbox.take(self.database, self.slot))
            else {
                return;
            };
            let asked = match serde_json::from_slice(&question) {
                Ok(question) => self.ask(ticket, question),
                Err(_) => Err(trouble(TroubleKind::Refused, "the question is not understood", "")),
            };
            self.asked.insert(ticket, Asked::UnderWay);
            if let Err(trouble) = asked {
                self.note_replies(vec![(ticket, Err(trouble))]);
                self.give_answers();
            }
        }
    }

    fn ask(&mut self, ticket: u64, question: Question) -> Result<(), Trouble> {
        let Some(sink) = self.sink.clone() else {
            return Err(trouble(
                TroubleKind::NotConfigured,
                "audit_algolia is not configured",
                "Set audit_algolia.application_id and audit_algolia.api_key (or api_key_file), and reload the configuration.",
            ));
        };
        let unsent = |error: std::io::Error| trouble(TroubleKind::Passing, &error.to_string(), "");
        if self.sender_pool.is_none() {
            self.sender_pool = Some(SenderPool::new().map_err(unsent)?);
        }
        match &mut self.sender_pool {
            Some(sender_pool) => sender_pool.ask(ticket, question, sink).map_err(unsent),
            None => Ok(()),
        }
    }

    /// Answers have come back.
    pub(super) fn note_replies(&mut self, replies: Vec<(u64, Reply)>) {
        for (ticket, reply) in replies {
            // What consists of texts and numbers is always JSON.
            let answer = serde_json::to_vec(&reply).unwrap_or_default();
            self.asked.insert(ticket, Asked::Answered { answer, given: 0 });
        }
    }

    /// Puts answers in, as far as there is room for them.
    fn give_answers(&mut self) {
        let tickets: Vec<u64> = self.asked.keys().copied().collect();
        for ticket in tickets {
            let Entry::Occupied(mut entry) = self.asked.entry(ticket) else { continue };
            let Asked::Answered { answer, given } = entry.get_mut() else { continue };
            let rest = answer.get(*given..).unwrap_or_default();
            match shmem::mailbox().map_or(Given::Unwanted, |mut mailbox| mailbox.give(ticket, rest)) {
                Given::Full => (),
                Given::Unwanted => drop(entry.remove()),
                Given::Put { bytes, latch } => {
                    *given += bytes;
                    if *given == answer.len() {
                        entry.remove();
                    }
                    shmem::wake_latch(latch);
                }
            }
        }
    }

    /// Whether the mailbox has something to do for this worker.
    pub(super) fn is_called(&self, retiring: bool) -> bool {
        let has_room = !retiring && self.asked.len() < MOST;
        let answers = |ticket| matches!(self.asked.get(&ticket), Some(Asked::Answered { .. }));
        shmem::mailbox().is_some_and(|mailbox| mailbox.calls(self.database, has_room, answers))
    }
}

fn trouble(kind: TroubleKind, reason: &str, hint: &str) -> Trouble {
    Trouble { kind, reason: reason.to_owned(), hint: hint.to_owned() }
}
