//! Questions that sessions put to the workers, and the answers, in shared memory.
//!
//! A session that wants to know something of Algolia has no key and must not wait for the network. It puts its question
//! into a box; a worker of its database takes it, and puts the answer in, piece by piece when the box is too small. A
//! question belongs to the session: it ends when that closes it or dies, and is asked again when a worker dies over it.
//!
//! As everything that is shared, it is valid as all zeroes.
#![forbid(unsafe_code)]

/// How many questions can be open at a time, over all databases.
pub const BOXES: usize = 4;
/// The longest question, and the longest piece of an answer.
pub const BOX_BYTES: usize = 128 << 10;

/// How far a question is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
enum State {
    /// Nobody uses this box.
    #[default]
    Free,
    /// A question that no worker has taken.
    Asked,
    /// A worker has it. The session has read the last piece of the answer, if there was any.
    Taken,
    /// A piece of the answer, and there is more.
    Piece,
    /// The last piece.
    Last,
    /// The worker is gone, and what it had of the answer with it.
    Lost,
}

/// Room for one question or a piece of its answer.
#[derive(Clone, Copy)]
#[repr(C)]
struct Letterbox {
    state: State,
    database: u32,
    /// The process that asks, and the address of its latch.
    pid: i32,
    latch: u64,
    /// The slot of the worker that has the question.
    worker: u32,
    ticket: u64,
    length: u32,
    bytes: [u8; BOX_BYTES],
}

/// All the boxes.
#[repr(C)]
pub struct Mailbox {
    last_ticket: u64,
    boxes: [Letterbox; BOXES],
}

/// What a session finds in its box.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing yet; no worker has so much as taken the question.
    Unread,
    /// Nothing yet.
    Nothing,
    /// A piece of the answer; the worker in this slot has more.
    Piece { worker: usize },
    /// The rest of the answer; the box is free again.
    Last,
    /// There will be no answer: the question has to be asked again.
    Lost,
}

/// What became of an answer that a worker wanted to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Given {
    /// So many of its bytes lie in the box; set this latch.
    Put { bytes: usize, latch: u64 },
    /// The session has not read the last piece.
    Full,
    /// Nobody waits for it any more.
    Unwanted,
}

impl Default for Mailbox {
    fn default() -> Mailbox {
        const EMPTY: Letterbox = Letterbox {
            state: State::Free,
            database: 0,
            pid: 0,
            latch: 0,
            worker: 0,
            ticket: 0,
            length: 0,
            bytes: [0; BOX_BYTES],
        };
        Mailbox { last_ticket: 0, boxes: [EMPTY; BOXES] }
    }
}

impl Letterbox {
    fn put(&mut self, bytes: &[u8]) -> usize {
        let length = bytes.len().min(BOX_BYTES);
        if let (Some(room), Some(bytes)) = (self.bytes.get_mut(..length), bytes.get(..length)) {
            room.copy_from_slice(bytes);
        }
        self.length = length as u32;
        length
    }

    fn content(&self) -> &[u8] {
        self.bytes.get(..self.length as usize).unwrap_or_default()
    }
}

impl Mailbox {
    fn of(&mut self, ticket: u64) -> Option<&mut Letterbox> {
        self.boxes.iter_mut().find(|one| one.state != State::Free && one.ticket == ticket)
    }

    /// Puts a question in; its ticket, or nothing when all boxes are in use. It must not be longer than [`BOX_BYTES`].
    pub fn ask(&mut self, database: u32, pid: i32, latch: u64, question: &[u8]) -> Option<u64> {
        let ticket = self.last_ticket + 1;
        let free = self.boxes.iter_mut().find(|one| one.state == State::Free)?;
        free.put(question);
        (free.database, free.pid, free.latch, free.worker) = (database, pid, latch, 0);
        (free.ticket, free.state) = (ticket, State::Asked);
        self.last_ticket = ticket;
        Some(ticket)
    }

    /// Appends what there is of an answer to `answer`.
    pub fn look(&mut self, ticket: u64, answer: &mut Vec<u8>) -> Found {
        let Some(mine) = self.of(ticket) else {
            return Found::Lost;
        };
        match mine.state {
            State::Asked => Found::Unread,
            State::Free | State::Taken => Found::Nothing,
            State::Piece => {
                answer.extend_from_slice(mine.content());
                mine.state = State::Taken;
                Found::Piece { worker: mine.worker as usize }
            }
            State::Last => {
                answer.extend_from_slice(mine.content());
                mine.state = State::Free;
                Found::Last
            }
            State::Lost => {
                mine.state = State::Free;
                Found::Lost
            }
        }
    }

    /// The session does not want to know any more.
    pub fn close(&mut self, ticket: u64) {
        if let Some(mine) = self.of(ticket) {
            mine.state = State::Free;
        }
    }

    /// A session is gone.
    pub fn close_all(&mut self, pid: i32) {
        for one in self.boxes.iter_mut().filter(|one| one.pid == pid) {
            one.state = State::Free;
        }
    }

    /// Whether there is something for a worker to do: a question to take, if it has room for one, or the next piece of
    /// one of the answers it has.
    pub fn calls(&self, database: u32, has_room: bool, answers: impl Fn(u64) -> bool) -> bool {
        self.boxes.iter().any(|one| match one.state {
            State::Asked => has_room && one.database == database,
            State::Taken => answers(one.ticket),
            _ => false,
        })
    }

    /// Takes the oldest question of a database.
    pub fn take(&mut self, database: u32, worker: usize) -> Option<(u64, Vec<u8>)> {
        let asked = self.boxes.iter_mut().filter(|one| one.state == State::Asked && one.database == database);
        let oldest = asked.min_by_key(|one| one.ticket)?;
        oldest.state = State::Taken;
        oldest.worker = worker as u32;
        Some((oldest.ticket, oldest.content().to_vec()))
    }

    /// Puts in as much of (the rest of) an answer as there is room for.
    pub fn give(&mut self, ticket: u64, answer: &[u8]) -> Given {
        let Some(taken) = self.of(ticket) else {
            return Given::Unwanted;
        };
        match taken.state {
            State::Taken => {
                let bytes = taken.put(answer);
                taken.state = if bytes == answer.len() { State::Last } else { State::Piece };
                Given::Put { bytes, latch: taken.latch }
            }
            State::Piece => Given::Full,
            _ => Given::Unwanted,
        }
    }

    /// A worker is gone; returns the latches of the sessions that waited for it.
    pub fn resign(&mut self, worker: usize) -> [u64; BOXES] {
        let mut latches = [0; BOXES];
        for (one, latch) in self.boxes.iter_mut().zip(&mut latches) {
            if matches!(one.state, State::Taken | State::Piece) && one.worker as usize == worker {
                one.state = State::Lost;
                *latch = one.latch;
            }
        }
        latches
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATABASE: u32 = 5;

    fn mailbox() -> Box<Mailbox> {
        Box::default()
    }

    fn asked(mailbox: &mut Mailbox, pid: i32) -> u64 {
        mailbox.ask(DATABASE, pid, pid as u64, b"question").unwrap()
    }

    #[test]
    fn a_question_is_answered_by_a_worker_of_its_database() {
        let mut mailbox = mailbox();
        let ticket = asked(&mut mailbox, 1);
        let mut answer = Vec::new();
        assert_eq!(mailbox.look(ticket, &mut answer), Found::Unread);
        assert!(!mailbox.calls(DATABASE + 1, true, |_| true) && mailbox.calls(DATABASE, true, |_| false));
        assert_eq!(mailbox.take(DATABASE + 1, 0), None);
        assert_eq!(mailbox.take(DATABASE, 3), Some((ticket, b"question".to_vec())));
        assert_eq!(mailbox.take(DATABASE, 3), None);
        assert_eq!(mailbox.look(ticket, &mut answer), Found::Nothing);
        assert_eq!(mailbox.give(ticket, b"answer"), Given::Put { bytes: 6, latch: 1 });
        assert_eq!(mailbox.look(ticket, &mut answer), Found::Last);
        assert_eq!(answer, b"answer");
        assert_eq!(mailbox.look(ticket, &mut answer), Found::Lost);
    }

    #[test]
    fn a_long_answer_comes_in_pieces() {
        let mut mailbox = mailbox();
        let ticket = asked(&mut mailbox, 1);
        mailbox.take(DATABASE, 3);
        let long: Vec<u8> = (0..2 * BOX_BYTES + 10).map(|n| n as u8).collect();
        let (mut answer, mut given) = (Vec::new(), 0);
        loop {
            match mailbox.give(ticket, &long[given..]) {
                Given::Put { bytes, .. } => given += bytes,
                other => panic!("{other:?}"),
            }
            if given < long.len() {
                assert_eq!(mailbox.give(ticket, &long[given..]), Given::Full);
                assert!(!mailbox.calls(DATABASE, true, |mine| mine == ticket));
            }
            match mailbox.look(ticket, &mut answer) {
                Found::Piece { worker } => assert_eq!(worker, 3),
                found => break assert_eq!(found, Found::Last),
            }
            assert!(mailbox.calls(DATABASE, true, |mine| mine == ticket));
        }
        assert_eq!(answer, long);
    }

    #[test]
    fn there_are_so_many_boxes_and_each_comes_free_again() {
        let mut mailbox = mailbox();
        let tickets: Vec<u64> = (0..BOXES as i32).map(|pid| asked(&mut mailbox, pid)).collect();
        assert_eq!(mailbox.ask(DATABASE, 9, 9, b""), None);
        mailbox.close(tickets[1]);
        let later = asked(&mut mailbox, 9);
        assert!(!tickets.contains(&later));
        mailbox.close_all(2);
        assert!(mailbox.ask(DATABASE, 9, 9, b"").is_some());
        assert_eq!(mailbox.take(DATABASE, 0).map(|(ticket, _)| ticket), Some(tickets[0]), "the oldest first");
    }

    #[test]
    fn nobody_answers_what_is_not_asked_any_more() {
        let mut mailbox = mailbox();
        let ticket = asked(&mut mailbox, 1);
        mailbox.take(DATABASE, 3);
        mailbox.close(ticket);
        let next = asked(&mut mailbox, 2);
        assert_eq!(mailbox.give(ticket, b"answer"), Given::Unwanted);
        assert_eq!(mailbox.look(next, &mut Vec::new()), Found::Unread);
    }

    #[test]
    fn what_a_dead_worker_had_is_asked_again() {
        let mut mailbox = mailbox();
        let (one, other) = (asked(&mut mailbox, 1), asked(&mut mailbox, 2));
        mailbox.take(DATABASE, 3);
        mailbox.take(DATABASE, 4);
        assert_eq!(mailbox.resign(3), [1, 0, 0, 0]);
        assert_eq!(mailbox.look(one, &mut Vec::new()), Found::Lost);
        assert_eq!(mailbox.look(other, &mut Vec::new()), Found::Nothing);
        assert_eq!(mailbox.give(one, b"answer"), Given::Unwanted);
    }
}
