//! A folder for the files of a test: a configuration, a store.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use super::hailer;

/// A folder of a test's own, removed with it.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new(what: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("{what}-{}-{number}", std::process::id());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&path).expect("a folder can be made");
        Self(path)
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str, mode: u32) {
        let path = self.0.join(name);
        std::fs::write(&path, text).expect("the folder can be written to");
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("the file is ours");
    }

    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.0.join(name)).expect("the file is there")
    }

    pub(crate) fn mode(&self, name: &str) -> u32 {
        let metadata = std::fs::metadata(self.0.join(name)).expect("the file is there");
        metadata.permissions().mode() & 0o777
    }

    /// The program in this folder.
    pub(crate) fn hailer(&self, args: &[&str]) -> Command {
        let mut command = hailer(args);
        command.current_dir(&self.0);
        command
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What can't be removed lies in the build's own folder.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
