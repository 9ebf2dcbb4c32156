//! The keeper: what it answers, its certificate, and both at work on a real API server.

mod cluster;
mod ground;
mod review;
mod secret;
