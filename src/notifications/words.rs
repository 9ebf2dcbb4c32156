//! The texts for people, in English and in Chinese. What the record says, in English, stands in them as it is.

use std::fmt::Write as _;
use std::sync::Arc;

use super::event::{Event, EventKind};
use crate::record::Phase;
use crate::record::size::shortened;

/// The language of the texts of a sink.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Language {
    /// English.
    #[default]
    English,
    /// Chinese.
    Chinese,
}

/// Nodes that are named of those that failed together.
const NAMED: usize = 20;
/// The longest reason that stands in a text.
const REASON: usize = 600;

impl Language {
    /// By the word for it in the file.
    pub fn of(word: &str) -> Option<Self> {
        match word {
            "en" => Some(Self::English),
            "zh" => Some(Self::Chinese),
            _ => None,
        }
    }

    fn one_of<'t>(self, english: &'t str, chinese: &'t str) -> &'t str {
        match self {
            Self::English => english,
            Self::Chinese => chinese,
        }
    }

    /// What has happened, in a sentence without its end.
    pub fn title(self, event: &Event) -> String {
        let (english, chinese) = match (event.kind, event.phase) {
            (EventKind::Started, _) => ("has started", "已开始"),
            (EventKind::AwaitingPromotion, _) => ("waits for promote", "等待放行（promote）"),
            (EventKind::Held, _) => ("is held", "受阻暂停"),
            (EventKind::NodeFailed, _) => ("has a failed node", "有节点失败"),
            (EventKind::WindowOpened, _) => ("takes nodes again", "可以继续处理节点"),
            (EventKind::WindowClosed, _) => ("waits for a maintenance window", "等待维护窗口"),
            (EventKind::Paused, _) => ("is paused", "已暂停"),
            (EventKind::Resumed, _) => ("goes on", "继续进行"),
            (EventKind::RollingBack, _) => ("is rolling back", "正在回滚"),
            (EventKind::Ended, Phase::Succeeded) => ("has succeeded", "已成功完成"),
            (EventKind::Ended, Phase::RolledBack) => ("has been rolled back", "已回滚"),
            (EventKind::Ended, _) => ("has failed", "已失败"),
            (EventKind::Test, _) => ("is a test of notifications", "（通知测试）"),
        };
        match self {
            Self::English => format!("GCU upgrade {} {english}", event.upgrade),
            Self::Chinese => format!("GCU 升级 {} {chinese}", event.upgrade),
        }
    }

    /// How far the nodes are; `None` where they are not counted.
    pub fn counts(self, event: &Event) -> Option<String> {
        let nodes = event.nodes.as_ref()?;
        let mut text = match self {
            Self::English => format!("{} of {} nodes done", nodes.done, nodes.total),
            Self::Chinese => format!("节点：已完成 {}/{}", nodes.done, nodes.total),
        };
        for (count, english, chinese) in [
            (nodes.active, "in work", "进行中"),
            (nodes.waiting, "to come", "待处理"),
            (nodes.skipped, "left out", "已跳过"),
            (nodes.failed, "failed or late", "失败或超时"),
        ] {
            // Writing into memory cannot fail.
            let _ = match (count, self) {
                (0, _) => Ok(()),
                (_, Self::English) => write!(text, ", {count} {english}"),
                (_, Self::Chinese) => write!(text, "，{chinese} {count}"),
            };
        }
        Some(text)
    }

    /// Everything about what belongs together: one event, or nodes of one upgrade that failed.
    pub fn text(self, group: &[Arc<Event>], link: Option<&str>) -> String {
        let Some(last) = group.last() else { return String::new() };
        let mut lines = vec![self.title(last)];
        let nodes: Vec<&str> = group.iter().filter_map(|event| event.node.as_deref()).collect();
        if !nodes.is_empty() {
            let named = nodes.iter().take(NAMED).copied().collect::<Vec<_>>().join(", ");
            let rest = nodes.len().saturating_sub(NAMED);
            let more = match (rest, self) {
                (0, _) => String::new(),
                (_, Self::English) => format!(" and {rest} more"),
                (_, Self::Chinese) => format!(" 等 {} 个", nodes.len()),
            };
            let (one, several) = (self.one_of("Node: ", "节点："), self.one_of("Nodes: ", "节点："));
            lines.push(format!("{}{named}{more}", if nodes.len() == 1 { one } else { several }));
        }
        lines.extend(self.counts(last));
        let reason = shortened(&last.reason, REASON);
        lines.extend((!reason.is_empty()).then(|| format!("{}{reason}", self.one_of("Reason: ", "原因："))));
        lines.extend(last.by.as_ref().map(|by| format!("{}{by}", self.one_of("By: ", "操作者："))));
        lines.extend(link.map(|link| format!("{}{link}", self.one_of("Page: ", "页面："))));
        lines.join("\n")
    }
}

/// What belongs together, in order: nodes of one upgrade that failed one after the other are one.
pub fn groups(events: &[Arc<Event>]) -> Vec<Vec<Arc<Event>>> {
    let mut all: Vec<Vec<Arc<Event>>> = Vec::new();
    for event in events {
        let is_node = |other: &Event| other.kind == EventKind::NodeFailed && event.kind == other.kind;
        let together = all
            .last_mut()
            .filter(|group| group.last().is_some_and(|last| is_node(last) && last.upgrade == event.upgrade));
        match together {
            Some(group) => group.push(event.clone()),
            None => all.push(vec![event.clone()]),
        }
    }
    all
}
