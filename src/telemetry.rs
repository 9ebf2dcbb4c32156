//! Logs: to stdout, as text or JSON, and to the operations log in v1.0.0's place and in its form:
//! `2022/10/20 03:33:48Z INFO src/file.rs:12 message key=value`, in the time zone of `TZ` or the machine.
//!
//! What is logged on behalf of a request ends in `request=<id>`.

mod filter;
mod oplog;
pub mod trouble;
pub mod v1;

use std::fmt::{self, Write as _};
use std::path::Path;

use clap::ValueEnum;
use jiff::tz::TimeZone;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{FilterExt, LevelFilter, Targets, filter_fn};
use tracing_subscriber::fmt::FormattedFields;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::fmt::{self as logs, FmtContext};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

use crate::clock::Clock;
pub use filter::filter;
use oplog::OpLog;

/// Name of the operations log, as in v1.0.0.
const FILE: &str = "gcu-upgrade-manager.log";
/// The target of what ends the process: it reaches standard error and the operations log whatever the filter.
pub const FATAL: &str = "gcu_upgrade_manager::fatal";

/// How log lines look on stdout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// As in the operations log
    Text,
    /// One JSON object a line
    Json,
}

/// Starts logging. `filter` has levels by target, for example `info` or `gcu_upgrade_manager=debug`. A log
/// directory that cannot be written costs one warning, nothing else.
pub fn start(filter: &str, format: LogFormat, log_dir: Option<&Path>) {
    let (oplog, failure) = match log_dir.map(|dir| OpLog::open(dir, FILE)) {
        None => (None, None),
        Some(Ok(log)) => (Some(log), None),
        Some(Err(error)) => (None, Some(error)),
    };
    let like_v1 = || LikeV1 { clock: Clock::system(), zone: TimeZone::system() };
    let wanted = || filter.parse().unwrap_or_else(|_| Targets::new().with_default(Level::INFO));
    let is_fatal = |meta: &Metadata<'_>| meta.target() == FATAL;
    let only_fatal = || filter_fn(is_fatal).with_max_level_hint(LevelFilter::ERROR);
    let everyday = filter_fn(move |meta| !is_fatal(meta) && meta.target() != v1::TARGET);
    // A line that cannot be written is lost. To say so on stderr, which may be on the same full disk, would panic.
    let (stdout, stderr) = match format {
        LogFormat::Text => {
            let layer = || logs::layer().log_internal_errors(false).event_format(like_v1());
            (layer().boxed(), layer().with_writer(std::io::stderr).boxed())
        }
        LogFormat::Json => {
            let timer = || Rfc3339 { clock: Clock::system() };
            let layer = || logs::layer().json().log_internal_errors(false).flatten_event(true);
            let stderr = layer().with_timer(timer()).with_writer(std::io::stderr);
            (layer().with_timer(timer()).boxed(), stderr.boxed())
        }
    };
    let mut layers =
        vec![stdout.with_filter(wanted().and(everyday)).boxed(), stderr.with_filter(only_fatal()).boxed()];
    layers.extend(oplog.map(|log| {
        let layer = logs::layer().log_internal_errors(false).event_format(like_v1()).with_writer(log);
        layer.with_filter(wanted().or(only_fatal())).boxed()
    }));
    // Its lines are whole answers of the API server, manifests among them, and manifests may hold secrets; or one for
    // every call that fails. What it has to say comes to its callers as errors.
    let discreet = filter_fn(|meta| !meta.target().starts_with("kube_client::client"));
    // A second start in the same process (tests) keeps the first.
    let _ = tracing_subscriber::registry().with(discreet).with(layers).try_init();
    if let (Some(dir), Some(error)) = (log_dir, failure) {
        tracing::warn!("cannot write logs to {}: {error}; they go to stdout alone", dir.display());
    }
}

struct LikeV1 {
    clock: Clock,
    zone: TimeZone,
}

impl LikeV1 {
    /// The time with its zone: `Z`, or how far it is from there.
    fn now(&self) -> String {
        let now = self.clock.now().to_zoned(self.zone.clone());
        let format = if now.offset().is_zero() { "%Y/%m/%d %H:%M:%SZ" } else { "%Y/%m/%d %H:%M:%S%:z" };
        now.strftime(format).to_string()
    }
}

impl<S, N> FormatEvent<S, N> for LikeV1
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        ctx: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let meta = event.metadata();
        let level = if *meta.level() == Level::WARN { "WARNING" } else { meta.level().as_str() };
        let now = self.now();
        // A library's path is that of the machine it was built on: its module says more.
        let file = meta.file().filter(|f| f.starts_with("src/")).unwrap_or(meta.target());
        let line = meta.line().unwrap_or_default();
        let mut text = String::new();
        ctx.format_fields(Writer::new(&mut text), event)?;
        for span in ctx.event_scope().into_iter().flat_map(|scope| scope.from_root()) {
            if let Some(fields) = span.extensions().get::<FormattedFields<N>>() {
                write!(text, " {fields}")?;
            }
        }
        write!(writer, "{now} {level} {file}:{line} ")?;
        // Names and error texts come from outside: a line break in one must not make a second log line.
        for c in text.chars() {
            if c.is_control() { write!(writer, "{}", c.escape_default())? } else { write!(writer, "{c}")? }
        }
        writeln!(writer)
    }
}

/// The time in JSON lines.
struct Rfc3339 {
    clock: Clock,
}

impl FormatTime for Rfc3339 {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        write!(writer, "{}", self.clock.now())
    }
}
