//! Memory for making records, which is given back while a statement or a step goes on.

use pgrx::memcxt::PgMemoryContexts;
use pgrx::pg_sys;

/// How much memory may be in use before it is freed: enough for many ordinary rows, and little compared with a large
/// one.
const FREE_BEYOND: usize = 512 << 10;

/// A memory context of our own, created when it is first used.
pub(in crate::pg) struct Scratch {
    /// Its parent, which must outlive it.
    parent: pg_sys::MemoryContext,
    context: Option<PgMemoryContexts>,
}

impl Scratch {
    /// A context below the current one.
    pub(in crate::pg) fn new() -> Scratch {
        // SAFETY: there is a current context whenever PostgreSQL calls.
        Scratch { parent: unsafe { pg_sys::CurrentMemoryContext }, context: None }
    }

    /// Runs `work`. What it allocates in the server's memory is freed by the next `give_back`, so nothing of it may be
    /// kept.
    pub(in crate::pg) fn within<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let parent = self.parent;
        // SAFETY: the parent outlives us, and the context lives as long as we do.
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

    /// Frees the memory.
    pub(in crate::pg) fn give_back(&mut self) {
        if let Some(context) = &mut self.context {
            // SAFETY: nothing in it is used any more; see `within`.
            unsafe { context.reset() };
        }
    }

    /// Frees the memory if there is much of it.
    pub(in crate::pg) fn give_back_if_large(&mut self) {
        if self.context.as_ref().is_some_and(|context| is_large(context.value())) {
            self.give_back();
        }
    }
}

/// Whether the current memory context has grown so much that it should be freed.
pub(super) fn has_grown() -> bool {
    // SAFETY: there is a current context whenever PostgreSQL calls.
    is_large(unsafe { pg_sys::CurrentMemoryContext })
}

fn is_large(context: pg_sys::MemoryContext) -> bool {
    // SAFETY: a valid context, which counts its blocks.
    unsafe { (*context).mem_allocated > FREE_BEYOND }
}
