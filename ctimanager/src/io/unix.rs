//! Unix sockets at paths of any length. A socket's address holds 108 bytes (`sun_path`, unix(7)), and folders lie deeper
//! than that: a longer path is reached by a descriptor of its folder, `/proc/self/fd/N/NAME`.

use rustix::fs::{Mode, OFlags};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// The longest path that is an address itself: the last of the 108 bytes is a zero.
const MAX_ADDRESS: usize = 107;

/// What stands for a socket's path in `bind` and `connect`, as long as it lives.
#[derive(Debug)]
pub struct Address {
    path: PathBuf,
    /// Keeps the number in the path.
    _folder: Option<OwnedFd>,
}

impl Address {
    /// The address of the socket at this path.
    ///
    /// # Errors
    /// When its folder can't be opened, or its name alone is too long.
    pub fn of(path: &Path) -> io::Result<Self> {
        if path.as_os_str().len() <= MAX_ADDRESS {
            return Ok(Self { path: path.to_owned(), _folder: None });
        }
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let folder = path.parent().unwrap_or(Path::new("/"));
        let folder =
            rustix::fs::open(folder, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let short = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name);
        if short.as_os_str().len() > MAX_ADDRESS {
            let most = MAX_ADDRESS - (short.as_os_str().len() - name.len());
            let what =
                format!("the name of a Unix socket has at most {most} bytes here, this one {}", name.len());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        Ok(Self { path: short, _folder: Some(folder) })
    }

    /// The path that leads there, for as long as this is kept.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::{UnixListener, UnixStream};

    /// A folder whose path has this many bytes, within the folder for temporary files.
    fn folder_of(bytes: usize) -> (PathBuf, PathBuf) {
        let top = std::env::temp_dir().join(format!("ctimanager-unix-{}-{bytes}", std::process::id()));
        let mut folder = top.clone();
        while folder.as_os_str().len() + 2 <= bytes {
            let room = bytes - folder.as_os_str().len() - 1;
            folder = folder.join("ö %\"' ".chars().cycle().take(room.min(40) / 2).collect::<String>() + "x");
        }
        std::fs::create_dir_all(&folder).expect("a folder");
        (top, folder)
    }

    #[test]
    fn a_socket_is_reached_however_deep_it_lies() {
        for bytes in [60, 95, 96, 97, 150, 600, 2_000] {
            let (top, folder) = folder_of(bytes);
            let path = folder.join("node.sock");
            let listener = UnixListener::bind(Address::of(&path).expect("an address").path()).expect("bound");
            assert!(path.exists(), "it stands where it is wanted: {bytes}");
            let mut asker =
                UnixStream::connect(Address::of(&path).expect("an address").path()).expect("connected");
            asker.write_all(b"?").expect("written");
            let mut heard = [0];
            listener.accept().expect("an asker").0.read_exact(&mut heard).expect("a byte");
            assert_eq!(&heard, b"?");
            std::fs::remove_dir_all(top).expect("removed");
        }
    }

    #[test]
    fn what_can_not_be_an_address_is_told_as_what_it_is() {
        let name = std::env::temp_dir().join("x".repeat(120));
        let told = Address::of(&name).expect_err("no room for the name").to_string();
        assert!(told.contains("at most") && told.contains("this one 120"), "{told}");
        let nowhere = Path::new("/nowhere").join("deep".repeat(30)).join("node.sock");
        assert_eq!(Address::of(&nowhere).expect_err("no folder").kind(), io::ErrorKind::NotFound);
    }
}
