//! Floor 5: files, environment and flags, read into one checked [`Config`].
//!
//! One table, [`PARTS`], defines every setting: key, type, default, limits, variable, flag, meaning. The structs, the
//! parsing, the check for unknown keys, `adit config show` and `docs/CONFIG.md` are generated from it, so they always
//! agree.
//!
//! [`Config::load`] is pure: it takes the text of the file, the environment and the flags. Only [`FileText::read`],
//! [`Config::check_files`], [`SecretSource::read`], [`read_named`] and the readers of policies access the file system.

mod addresses;
mod approval_checks;
mod caller_terms;
mod checks;
mod cloudflared;
mod command_setting;
mod docs;
mod entries;
mod error;
mod files;
mod identity_checks;
mod load;
mod named_file;
mod networks;
mod otlp_checks;
mod pin_checks;
mod profile;
mod proxy;
mod reader;
mod section;
mod service_variables;
mod setting_type;
mod show;
mod sources;
mod table;
mod values;

pub use addresses::{HostField, HostPort, HttpUrl, WebOrigin};
pub use caller_terms::CallerTerms;
pub use cloudflared::{
    CLOUDFLARED_HELP, CloudflaredCommand, CloudflaredConfig, CloudflaredIngress, CloudflaredLogFormat, CloudflaredRule,
    CloudflaredService, CloudflaredUsage, IngressFault, METRICS_PORTS, OriginOptions, cloudflared_variables,
    parse_cloudflared, read_ingress,
};
pub use command_setting::{CommandWords, EnvVariables};
pub use docs::markdown;
pub use error::{ConfigError, ConfigErrors, Origin};
pub use files::{CONFIG_FILE_LEN_MAX, SecretFault, read_policy, read_policy_files};
pub use load::Config;
pub use named_file::read_named;
pub use networks::UpstreamNetwork;
pub use profile::{Profile, UnknownProfile};
pub use proxy::{NO_PROXY_ENVS, PROXY_ENVS, ProxyScheme, ProxyUrl};
pub use reader::EffectiveValue;
pub use section::{Part, Preset, Reload, Setting};
pub use sources::{CREDENTIALS, FileText, Flag, Purpose, Sources};
pub use table::{
    ADMIN_TOKEN_ENV, ADMIN_TOKEN_FILE_ENV, ADMIN_URL_ENV, AdmissionConfig, ApprovalsConfig, AuditConfig,
    ClientAuthorityConfig, ConnectConfig, EdgeAuthorityConfig, EdgeConfig, EngineConfig, FILE_ENV, HostConfig,
    IdentityConfig, IdentityProviderConfig, LogConfig, NetworkSetConfig, OtlpConfig, PARTS, RouteConfig,
    TokenExchangeConfig, ToolConfig, TrustedEdgeConfig, TunnelConfig, settings,
};
pub use values::{
    AlgorithmName, AuditMode, AuditSync, Bridge, Bytes, CallerAuth, CallerName, ChildSharing, ChildStart,
    ClientCertificate, Driver, FolderPath, ForwardedIdentity, Hedge, IdentityHeaderName, LogFormat, LogLevels, MASK,
    Millis, OriginRule, OwnOrigin, Ratio, Resend, SECRET_LEN_MAX, SECRET_LEN_MIN, SecretSource, SecretText,
    ServerPreset, Spin, TokenText, Transport,
};
