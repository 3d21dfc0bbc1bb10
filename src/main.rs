//! Parses the command, runs it, and turns its end into an exit code.

use clap::Parser as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    // reqwest and rustls take their cryptography from here; it must be there before either is built.
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        eprintln!("another cryptographic provider was installed first");
        return ExitCode::FAILURE;
    }
    wechat_authz::command::run(wechat_authz::command::Arguments::parse())
}
