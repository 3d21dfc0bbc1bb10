//! The file of a Unix socket: creation, permissions and removal.

use super::address::Address;
use super::bind_error::BindError;
use std::ffi::OsString;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use tokio::net::{UnixListener, UnixSocket, UnixStream};

/// Connections in the system's queue until we accept them, as many as for TCP.
const BACKLOG: u32 = 1_024;

/// Listens at `path`. The file appears there only once its mode allows no other user.
pub(super) async fn listen(address: &Address, path: &Path) -> Result<(UnixListener, SocketFile), BindError> {
    remove_stale(address, path).await?;
    let mut temporary = OsString::from(path);
    temporary.push(".new");
    let temporary = PathBuf::from(temporary);
    // A process that was killed before the rename leaves this file.
    remove_stale(address, &temporary).await?;
    bind(&temporary, path).map_err(|error| BindError::Refused(address.clone(), error))
}

/// Removes the socket of a process that has ended, and no other file.
async fn remove_stale(address: &Address, path: &Path) -> Result<(), BindError> {
    let refused = |error| BindError::Refused(address.clone(), error);
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(refused(error)),
        Ok(metadata) if !metadata.file_type().is_socket() => return Err(BindError::NotASocket(address.clone())),
        Ok(_) => {}
    }
    match UnixStream::connect(path).await {
        // Only this error means that no process listens. With a full queue or a missing permission, one does.
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path).map_err(refused),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(BindError::AddressInUse(address.clone())),
        Err(error) => Err(refused(error)),
        Ok(_) => Err(BindError::AddressInUse(address.clone())),
    }
}

/// Sets the mode before `listen`: until then the system refuses every connection, whatever the umask.
fn bind(temporary: &Path, path: &Path) -> io::Result<(UnixListener, SocketFile)> {
    let socket = UnixSocket::new_stream()?;
    socket.bind(temporary)?;
    let mut file = SocketFile { inode: std::fs::symlink_metadata(temporary)?.ino(), path: temporary.to_owned() };
    std::fs::set_permissions(temporary, std::fs::Permissions::from_mode(0o600))?;
    let listener = socket.listen(BACKLOG)?;
    std::fs::rename(temporary, path)?;
    path.clone_into(&mut file.path);
    Ok((listener, file))
}

/// Removes the socket's file when dropped, unless another process has replaced it.
pub(super) struct SocketFile {
    path: PathBuf,
    inode: u64,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if std::fs::symlink_metadata(&self.path).is_ok_and(|metadata| metadata.ino() == self.inode) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
