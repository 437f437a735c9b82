//! Named points at which a test lets the process, or its disk, fail.
//!
//! The money path says where it is: `failpoint::hit("consumer.voucher.signed")`.
//! A build with debug assertions can be armed with a [`Plan`]; then, at the
//! point that the plan names, the process kills itself, or the disk is full
//! from there on, or the power is cut. In a release build [`hit`] is empty and
//! [`arm`] refuses, so that no list of names and no way to die is in what is
//! shipped. Which command may be armed, and by what variable, is `lethe`'s
//! business: nothing here reads the environment.

pub mod disk;
mod plan;
mod points;

pub use plan::{Action, Plan, PlanError};
pub use points::ALL;

/// Why nothing was armed.
#[derive(Debug, thiserror::Error)]
pub enum ArmError {
    /// Release builds have no points.
    #[error("this build has no failpoints: use one with debug assertions (`cargo build`)")]
    NotBuiltIn,
    /// The text is no plan.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// A plan is armed already.
    #[error("a failpoint is armed already")]
    Twice,
    /// The plan needs a disk that fails.
    #[error("action {action} needs the preloaded disk of failpoint::disk, which is not there")]
    NoDisk {
        /// What was asked for.
        action: Action,
    },
}

/// The process is at this point. Nothing happens, unless a test wants it.
#[inline]
pub fn hit(name: &'static str) {
    #[cfg(debug_assertions)]
    armed::hit(name);
    #[cfg(not(debug_assertions))]
    let _ = name;
}

/// From now on, the [`Plan`] in the text is carried out when its point is hit.
#[cfg(not(debug_assertions))]
pub fn arm(_text: &str) -> Result<(), ArmError> {
    Err(ArmError::NotBuiltIn)
}

#[cfg(debug_assertions)]
pub use armed::arm;

#[cfg(debug_assertions)]
mod armed {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    use crate::disk::{self, Fault};
    use crate::{Action, ArmError, Plan};

    struct Armed {
        plan: Plan,
        hits: AtomicU32,
    }

    static ARMED: OnceLock<Armed> = OnceLock::new();

    /// From now on, the [`Plan`] in the text is carried out when its point is hit.
    pub fn arm(text: &str) -> Result<(), ArmError> {
        let plan: Plan = text.parse()?;
        if plan.action != Action::Kill && !disk::is_loaded() {
            let action = plan.action;
            return Err(ArmError::NoDisk { action });
        }
        let hits = AtomicU32::new(0);
        ARMED.set(Armed { plan, hits }).map_err(|_| ArmError::Twice)
    }

    pub(super) fn hit(name: &'static str) {
        let Some(Armed { plan, hits }) = ARMED.get() else {
            return;
        };
        if name != plan.point || hits.fetch_add(1, Ordering::Relaxed) + 1 != plan.nth {
            return;
        }
        match plan.action {
            Action::Kill => die(),
            Action::Full => disk::ask(Fault::Full),
            Action::Cut => {
                disk::ask(Fault::Cut);
                // The disk has killed the process; if it is not what it seems, so be it.
                die();
            }
        }
    }

    /// `kill -9`: no destructor, no handler, no flush.
    #[expect(unsafe_code, reason = "nothing in std dies like this")]
    fn die() -> ! {
        // SAFETY: both take and return plain numbers.
        unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
        loop {
            std::thread::park();
        }
    }
}
