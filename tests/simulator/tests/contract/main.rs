//! The simulator's contract, over raw sockets: what is checked, in which order, and how it goes wrong on request.

mod authorize;
mod binary;
mod central;
mod control;
mod exchange;
mod faults;
mod qr;
mod support;
