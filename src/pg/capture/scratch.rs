//! Memory for making records, which is given back while a statement or a step goes on.

use pgrx::memcxt::PgMemoryContexts;
use pgrx::pg_sys;

/// How much may be in use before it is given back: many ordinary rows' worth, and little beside a large one.
const LARGE: usize = 512 << 10;

/// A memory context of our own, which is made when it is used first.
pub(in crate::pg) struct Scratch {
    /// The one it is below, which has to outlive it.
    parent: pg_sys::MemoryContext,
    context: Option<PgMemoryContexts>,
}

impl Scratch {
    /// Below the current context.
    pub(in crate::pg) fn new() -> Scratch {
        // SAFETY: there is a current context whenever PostgreSQL calls.
        Scratch { parent: unsafe { pg_sys::CurrentMemoryContext }, context: None }
    }

    /// Does `work`, of which nothing is to be kept that is allocated by the server: it is gone with the next
    /// `give_back`.
    pub(in crate::pg) fn within<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let parent = self.parent;
        // SAFETY: the parent lives, by the word of whoever made us, and the context as long as we do.
        unsafe {
            let context = self.context.get_or_insert_with(|| {
                let current = pg_sys::MemoryContextSwitchTo(parent);
                let context = PgMemoryContexts::new("audit_algolia scratch");
                pg_sys::MemoryContextSwitchTo(current);
                context
            });
            context.switch_to(|_| work())
        }
    }

    /// Gives back what has been allocated.
    pub(in crate::pg) fn give_back(&mut self) {
        if let Some(context) = &mut self.context {
            // SAFETY: nothing in it is used any more, by the word of whoever called `within`.
            unsafe { context.reset() };
        }
    }

    /// The same if that is worth the while.
    pub(in crate::pg) fn give_back_if_large(&mut self) {
        if self.context.as_ref().is_some_and(|context| is_large(context.value())) {
            self.give_back();
        }
    }
}

/// Whether so much has been allocated in the current memory context that it is time to give it back.
pub(super) fn has_grown() -> bool {
    // SAFETY: there is a current context whenever PostgreSQL calls.
    is_large(unsafe { pg_sys::CurrentMemoryContext })
}

fn is_large(context: pg_sys::MemoryContext) -> bool {
    // SAFETY: a valid context; it keeps count of its blocks.
    unsafe { (*context).mem_allocated > LARGE }
}
