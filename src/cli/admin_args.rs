use std::path::PathBuf;

use clap::Args;

/// How to reach the edge's admin API, and how to print answers.
#[derive(Args, Clone, Default)]
pub struct AdminArgs {
    /// URL of the edge's admin API; also ADIT_ADMIN_URL [default: http://127.0.0.1:9443]
    #[arg(long, value_name = "URL", global = true)]
    pub admin: Option<String>,
    /// File with the admin token; also ADIT_ADMIN_TOKEN_FILE or, for the token itself, ADIT_ADMIN_TOKEN [default: the file in
    /// the data directory]
    #[arg(long, value_name = "FILE", global = true)]
    pub admin_token_file: Option<PathBuf>,
    /// The edge's data directory, which contains the admin token; also ADIT_EDGE_DATA_DIR
    #[arg(long, value_name = "DIR", global = true)]
    pub data_dir: Option<PathBuf>,
    /// Print the edge's answer as JSON
    #[arg(long, global = true)]
    pub json: bool,
}

impl AdminArgs {
    pub(super) fn dir(&self) -> DataDirArgs {
        DataDirArgs { data_dir: self.data_dir.clone() }
    }
}

/// The flag that names the data directory of an edge.
#[derive(Args, Clone)]
pub struct DataDirArgs {
    /// The data directory of the edge; without it ADIT_EDGE_DATA_DIR names it
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
}
