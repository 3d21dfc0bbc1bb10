//! What `tests/bench` measures with, as one program: a server that does nothing, tokens, and three kinds of load that
//! `wrk` does not give. Each command prints one line of JSON, or nothing.

mod answer;
mod connection;
mod flood;
mod login;
mod mint;
mod rate;
mod verification;

use clap::Parser;

/// The tools of tests/bench.
#[derive(Parser)]
#[command(name = "bench-tools", version)]
enum Command {
    /// Answers every request with the same status 200, headers and body: the floor, and the application
    Answer(answer::Answer),
    /// Prints session tokens, one a line
    Mint(mint::Mint),
    /// Measures the processor time of one signature check
    Verification(verification::Verification),
    /// Sends a fixed number of requests as fast as they are answered, each with a token or an address of its own
    Flood(flood::Flood),
    /// Sends requests at a fixed rate, answered or not
    Rate(rate::Rate),
    /// Logs people in
    Login(login::Login),
}

fn main() -> anyhow::Result<()> {
    match Command::parse() {
        Command::Answer(answer) => answer.run(),
        Command::Mint(mint) => mint.run(),
        Command::Verification(verification) => verification.run(),
        Command::Flood(flood) => flood.run(),
        Command::Rate(rate) => rate.run(),
        Command::Login(login) => login.run(),
    }
}
