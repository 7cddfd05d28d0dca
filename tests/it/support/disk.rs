//! A small disk.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A disk of a test's own in memory, taken away with it.
pub(crate) struct Disk(PathBuf);

impl Disk {
    /// Mounts one of this size on a folder, which is made if it is missing. `None` if this process may not.
    pub(crate) fn mount(at: &Path, size: &str) -> Option<Self> {
        std::fs::create_dir_all(at).expect("a folder can be made");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size},mode=0700"), "tmpfs"]).arg(at);
        let output = mount.output().ok()?;
        if !output.status.success() {
            println!("skipped: {}", String::from_utf8_lossy(&output.stderr));
            return None;
        }
        Some(Self(at.to_owned()))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: a test that fails may have files open.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}
