//! `aadstream` reads Microsoft Entra sign-in logs and Power BI refresh logs, finds the AADSTS reason codes in them, says
//! what each means and how bad it is in that situation, and counts them for Prometheus.
//!
//! The modules in reading order: the words, what is known about codes, the pure middle from bytes to counts, and
//! the programs around it.

pub mod exit_code;
pub mod terms;
pub mod code;
pub mod audit;
pub mod catalogue;
pub mod digest;
pub mod window;
pub mod config;
pub mod metrics;
pub mod files;
pub mod report;
pub mod log;
pub mod look;
pub mod web;
pub mod service;
pub mod demo;
pub mod cli;
pub mod command;
