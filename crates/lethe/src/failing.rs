//! Lets a test choose where this process fails: `LETHE_FAILPOINT` names a
//! point, `failpoint::ALL` has them all. A release build refuses the variable.

/// `POINT[:NTH][:ACTION]`.
const VARIABLE: &str = "LETHE_FAILPOINT";

/// Why the variable is of no use.
#[derive(Debug, thiserror::Error)]
#[error("{VARIABLE} cannot be followed")]
pub(crate) struct FailingError(#[from] failpoint::ArmError);

/// Does what the variable says; nothing if it is not set.
pub(crate) fn arm() -> Result<(), FailingError> {
    let Some(said) = std::env::var_os(VARIABLE) else {
        return Ok(());
    };
    Ok(failpoint::arm(&said.to_string_lossy())?)
}
