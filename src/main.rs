//! Parses the command line and runs the command.

use clap::Parser as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    // Before any file is read: most commands load a secret or a key.
    if let Err(error) = wechat_authz::forbid_core_dumps() {
        eprintln!("cannot forbid core dumps, which would hold secrets: {error}");
        return ExitCode::FAILURE;
    }
    // reqwest and rustls use this provider. Install it before creating a client.
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        eprintln!("a cryptographic provider is already installed");
        return ExitCode::FAILURE;
    }
    wechat_authz::run(wechat_authz::Arguments::parse())
}
