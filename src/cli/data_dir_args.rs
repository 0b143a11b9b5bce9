use std::path::PathBuf;

use clap::Args;

/// The flag that names the data directory of an edge.
#[derive(Args, Clone)]
pub struct DataDirArgs {
    /// The data directory of the edge; without it ADIT_EDGE_DATA_DIR names it
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
}
