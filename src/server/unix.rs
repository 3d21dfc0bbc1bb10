//! A Unix socket's file: whose place it takes, who may connect, and when it goes.

use super::address::Address;
use super::listener::BindError;
use std::ffi::OsString;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use tokio::net::{UnixListener, UnixSocket, UnixStream};

/// Connections that the system keeps for us until we accept them, as many as for TCP.
const WAITING: u32 = 1_024;

/// Listens at `path`, which is there only once nobody but our user may connect.
pub(super) async fn listen(address: &Address, path: &Path) -> Result<(UnixListener, SocketFile), BindError> {
    make_way(address, path).await?;
    let mut fresh = OsString::from(path);
    fresh.push(".new");
    let fresh = PathBuf::from(fresh);
    // Left by a process that was killed between the two names.
    make_way(address, &fresh).await?;
    appear(&fresh, path).map_err(|error| BindError::Refused(address.clone(), error))
}

/// Removes the socket of a process that is gone, and nothing else.
async fn make_way(address: &Address, path: &Path) -> Result<(), BindError> {
    let refused = |error| BindError::Refused(address.clone(), error);
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(refused(error)),
        Ok(found) if !found.file_type().is_socket() => return Err(BindError::NotASocket(address.clone())),
        Ok(_) => {}
    }
    match UnixStream::connect(path).await {
        // Only this says that nobody listens. A full queue or a missing right says that somebody does.
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path).map_err(refused),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(BindError::Taken(address.clone())),
        Err(error) => Err(refused(error)),
        Ok(_) => Err(BindError::Taken(address.clone())),
    }
}

/// The mode comes before the queue: whoever connects between the two is refused, whatever the umask.
fn appear(fresh: &Path, path: &Path) -> io::Result<(UnixListener, SocketFile)> {
    let socket = UnixSocket::new_stream()?;
    socket.bind(fresh)?;
    let mut file = SocketFile { inode: std::fs::symlink_metadata(fresh)?.ino(), path: fresh.to_owned() };
    std::fs::set_permissions(fresh, std::fs::Permissions::from_mode(0o600))?;
    let listener = socket.listen(WAITING)?;
    std::fs::rename(fresh, path)?;
    path.clone_into(&mut file.path);
    Ok((listener, file))
}

/// Removes the socket in the end, unless another process has put its own there.
pub(super) struct SocketFile {
    path: PathBuf,
    inode: u64,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if std::fs::symlink_metadata(&self.path).is_ok_and(|found| found.ino() == self.inode) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
