use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::base::HostPattern;
use crate::config::{ConfigError, Origin, read_policy};
use crate::policy::ToolPolicy;

/// Reads the policies of hosts. What a policy knows of the tools of its server is kept when it is read again.
#[derive(Default)]
pub(crate) struct PolicyReader {
    known: HashMap<(String, PathBuf), Arc<ToolPolicy>>,
}

impl PolicyReader {
    /// The policy of a host, whose file the setting `key` names. One whose file is as before stays the same. It is reported if it
    /// cannot be read.
    pub(super) fn read(
        &mut self,
        host: &HostPattern,
        key: String,
        file: &Path,
        faults: &mut Vec<ConfigError>,
    ) -> Option<Arc<ToolPolicy>> {
        let mut read =
            read_policy(file).map_err(|why| faults.push(ConfigError::new(Origin::Default, key, why))).ok()?;
        let place = (host.to_string(), file.to_path_buf());
        if let Some(known) = self.known.get(&place) {
            if **known == read {
                return Some(Arc::clone(known));
            }
            read.learn_from(known);
        }
        tracing::info!(%host, file = %file.display(), policy = %read.digest(), "policy read");
        read.useless().iter().for_each(|fault| tracing::warn!(file = %file.display(), "{fault}"));
        let read = Arc::new(read);
        self.known.insert(place, Arc::clone(&read));
        Some(read)
    }
}
