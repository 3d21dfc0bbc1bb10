//! A connection to a server: requests as bytes, answers one by one. No more of HTTP/1.1 than the servers here speak.

use anyhow::{Context as _, bail};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Longer than anything here may take.
const PATIENCE: Duration = Duration::from_secs(10);

pub struct Connection {
    stream: TcpStream,
    read: Vec<u8>,
    taken: usize,
}

/// An answer's status and its header lines.
pub struct Head {
    pub status: u16,
    lines: String,
}

impl Head {
    /// The values of a header, in order.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let lines = self.lines.split("\r\n").skip(1).filter_map(|line| line.split_once(':'));
        lines.filter(move |(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }
}

impl Connection {
    pub fn open(to: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect_timeout(&to, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { stream, read: Vec::with_capacity(64 * 1024), taken: 0 })
    }

    /// Sends bytes: one request, or several.
    pub fn send(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        Ok(self.stream.write_all(bytes)?)
    }

    /// The next answer, its body passed over.
    pub fn answer(&mut self) -> anyhow::Result<Head> {
        let head = loop {
            if let Some(length) = self.rest().windows(4).position(|window| window == b"\r\n\r\n") {
                let lines = String::from_utf8_lossy(&self.rest()[..length]).into_owned();
                self.taken += length + 4;
                break lines;
            }
            self.more()?;
        };
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).context("no status")?;
        let head = Head { status, lines: head };
        let length: Option<usize> = head.all("content-length").next().and_then(|length| length.parse().ok());
        let Some(length) = length else { bail!("an answer of {status} without a length") };
        while self.rest().len() < length {
            self.more()?;
        }
        self.taken += length;
        Ok(head)
    }

    fn rest(&self) -> &[u8] {
        self.read.get(self.taken..).unwrap_or_default()
    }

    fn more(&mut self) -> anyhow::Result<()> {
        self.read.drain(..self.taken);
        self.taken = 0;
        let mut piece = [0; 16 * 1024];
        match self.stream.read(&mut piece)? {
            0 => bail!("closed before the answer"),
            count => self.read.extend_from_slice(piece.get(..count).unwrap_or_default()),
        }
        Ok(())
    }
}

/// A percentile of sorted values.
pub fn percentile(sorted: &[u64], percent: usize) -> u64 {
    let at = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(at).copied().unwrap_or_default()
}
