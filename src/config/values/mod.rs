//! The types of values that only the configuration uses.

mod choices;
mod numbers;
mod secrets;
mod texts;

pub use choices::{
    AlgorithmName, AuditMode, AuditSync, Bridge, CallerAuth, CallerName, ChildSharing, ChildStart, ClientCertificate,
    Driver, ForwardedIdentity, Hedge, LogFormat, OriginRule, OwnOrigin, Resend, ServerPreset, Transport,
};
pub(super) use numbers::Price;
pub use numbers::{Bytes, Millis, Ratio, Spin};
pub use secrets::{MASK, SECRET_LEN_MAX, SECRET_LEN_MIN, SecretSource, SecretText};
pub(super) use texts::{FieldNameText, ToolName};
pub use texts::{FolderPath, IdentityHeaderName, LogLevels, TokenText};
