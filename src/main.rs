//! Parses the command, runs it, and turns its end into an exit code.

use clap::Parser as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    // Before any file is read: most commands load a secret or a key.
    if let Err(error) = wechat_authz::forbid_core_dumps() {
        eprintln!("cannot forbid core dumps, which would hold secrets: {error}");
        return ExitCode::FAILURE;
    }
    // reqwest and rustls take their cryptography from here; it must be there before either is built.
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        eprintln!("another cryptographic provider was installed first");
        return ExitCode::FAILURE;
    }
    wechat_authz::run(wechat_authz::Arguments::parse())
}
