//! The page's own labels, in every language that it speaks.

use crate::explain::fleet::NodeRolloutState;
use crate::plan::standstill::Standstill;
use crate::record::{Phase, Strategy};

/// A language of the labels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Language {
    /// English.
    #[default]
    English,
    /// Simplified Chinese.
    Chinese,
}

impl Language {
    /// Every one.
    pub const ALL: [Self; 2] = [Self::English, Self::Chinese];

    /// The tag that HTML and HTTP know it by.
    pub fn tag(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::Chinese => "zh-CN",
        }
    }

    /// Its name in itself.
    pub fn own_name(self) -> &'static str {
        match self {
            Self::English => "English",
            Self::Chinese => "中文",
        }
    }

    /// The language of a tag such as `zh-TW`; `None` for one that is not spoken here.
    pub fn of_tag(tag: &str) -> Option<Self> {
        match tag.trim().split('-').next().unwrap_or_default().to_ascii_lowercase().as_str() {
            "en" => Some(Self::English),
            "zh" => Some(Self::Chinese),
            _ => None,
        }
    }

    /// The one that a reader likes best, as `Accept-Language` says it.
    pub fn of_accepted(header: &str) -> Option<Self> {
        let mut best: Option<(f32, Self)> = None;
        for range in header.split(',') {
            let mut parts = range.split(';');
            let Some(language) = parts.next().and_then(Self::of_tag) else { continue };
            let weight = parts.find_map(|p| p.trim().strip_prefix("q=")?.parse::<f32>().ok()).unwrap_or(1.0);
            if weight > 0.0 && best.is_none_or(|(other, _)| weight > other) {
                best = Some((weight, language));
            }
        }
        best.map(|(_, language)| language)
    }

    /// Its labels.
    pub fn words(self) -> &'static Words {
        match self {
            Self::English => &ENGLISH,
            Self::Chinese => &CHINESE,
        }
    }
}

macro_rules! words {
    ($($name:ident: $english:literal, $chinese:literal;)*) => {
        /// The labels of one language.
        #[derive(Debug)]
        pub struct Words {
            $(#[doc = $english] pub $name: &'static str,)*
        }
        const ENGLISH: Words = Words { $($name: $english,)* };
        const CHINESE: Words = Words { $($name: $chinese,)* };
    };
}

words! {
    skip_to_content: "Skip to content", "跳到正文";
    site: "Site", "站点";
    api: "API", "API 文档";
    sign_out: "Sign out", "退出登录";
    copy: "Copy", "复制";
    copied: "Copied", "已复制";
    type_name: "To confirm, type", "请输入以下名称以确认：";
    upgrades: "Upgrades", "升级";
    grs: "GcuResources", "GcuResource 列表";
    gr: "gr", "gr";
    state: "State", "状态";
    no_grs: "There is no GcuResource in this cluster.", "集群中没有 GcuResource。";
    recent: "Recent upgrades", "最近的升级";
    no_upgrades: "No upgrade is on record.", "没有升级记录。";
    all_upgrades: "Only the newest are shown; all of them:", "只显示最新的记录；查看全部：";
    record: "Record", "记录";
    strategy: "Strategy", "策略";
    requested: "Requested", "请求时间";
    requested_by: "By", "请求者";
    took: "Took", "用时";
    blueprint: "Blueprint", "蓝图";
    blueprints: "Blueprints", "蓝图";
    no_blueprints: "There are no blueprints.", "没有蓝图。";
    usable: "Can be used", "可用";
    not_usable: "Cannot be used", "不可用";
    findings: "Findings", "检查结果";
    not_ready: "The service is not ready:", "服务尚未就绪：";
    open_gr: "Open a gr by its name", "按名称打开 gr";
    open: "Open", "打开";
    status: "Status", "状态";
    live: "Live", "实时";
    reconnecting: "Connection lost; trying again", "连接已断开，正在重试";
    reload:
        "This page does not update by itself: load it again to see what is new.",
        "本页不会自动更新：重新加载以查看最新状态。";
    as_of: "As of", "截至";
    read_only:
        "You may look but not change anything here: that takes the right to update this gr.",
        "您只有查看权限；更改需要对该 gr 的 update 权限。";
    pause: "Pause", "暂停";
    resume: "Resume", "继续";
    promote: "Promote", "放行下一步";
    cancel: "Cancel and go back", "取消并回退";
    rollback: "Roll back", "回滚";
    retry: "Retry", "重试";
    close: "Close as it is", "就此结束";
    skip: "Skip this node", "跳过此节点";
    retry_node: "Retry this node", "重试此节点";
    say_rollback: "A new upgrade to the version before the last one begins.", "将开始一次新的升级，回到上一个版本。";
    say_cancel: "The previous version is put back wherever it was replaced.", "已替换之处将恢复为之前的版本。";
    say_close: "The upgrade ends with the present state accepted.", "升级就此结束，接受当前状态。";
    asked:
        "Asked for. The upgrade shows it as soon as its controller has taken it up.",
        "已提交。控制器处理后此处会显示。";
    attention: "What blocks", "阻塞项";
    nothing_blocks: "Nothing blocks.", "没有阻塞。";
    waits_for: "It waits for:", "正在等待：";
    since: "since", "自";
    until: "until", "至";
    then: "then", "之后";
    left_out: "Left out", "已跳过";
    nodes: "Nodes", "节点";
    node: "Node", "节点";
    more: "more", "更多";
    fleet: "Fleet", "节点总览";
    no_nodes: "No node has a pod of the stack.", "没有节点运行该软件栈的 Pod。";
    group_by: "Group by", "分组方式";
    zone: "Zone", "可用区";
    model: "Model", "型号";
    label: "Label", "标签";
    apply: "Apply", "应用";
    no_value: "(none)", "（无）";
    cells:
        "Map of the fleet: one cell for each node. Arrow keys move, Enter shows the node in the table.",
        "节点图：每个节点一格。方向键移动，回车键在表格中显示该节点。";
    table: "Table of nodes", "节点表";
    find: "Find a node", "查找节点";
    all_states: "All states", "全部状态";
    sorted_by: "sort by", "排序：";
    previous_page: "Previous", "上一页";
    next_page: "Next", "下一页";
    time: "Time", "时间";
    started: "Started", "开始";
    ended: "Ended", "结束";
    expected_end: "Expected end", "预计结束";
    now: "Now", "现在";
    waited: "Waited for people and pauses", "等待人工与间隔的时间";
    efficiency: "Efficiency", "效率";
    course: "Steps", "步骤";
    standstills: "Stood still", "停顿";
    earlier: "earlier", "更早";
    lasts: "still", "仍在持续";
    nodes_in_time: "Nodes in work and done last", "进行中与最近完成的节点";
    in_work: "in work", "进行中";
    done: "done", "完成";
    plan: "Plan an upgrade", "规划升级";
    plan_about: "Shows what an upgrade would do. Nothing is changed.", "显示升级会做什么，不作任何更改。";
    at_once: "Nodes at once", "同时升级节点数";
    canary: "Canary nodes", "金丝雀节点数";
    show_plan: "Show the plan", "显示计划";
    the_plan: "The plan", "计划";
    start: "Start this upgrade", "开始此升级";
    under_way:
        "An upgrade is under way: the next can be planned when it has ended.",
        "升级正在进行：结束后才能规划下一次。";
    history: "History", "历史";
    revisions: "Revisions", "版本";
    revision: "Revision", "版本";
    changes: "What it changed", "变更内容";
    no_changes: "nothing", "无";
    timeline: "Timeline", "时间线";
    when: "When", "时间";
    step: "Step", "步骤";
    what: "What happened", "事件";
    steered: "Last command", "最近的命令";
    by_whom: "by", "由";
    reason: "Reason given", "原因";
    sign_in: "Sign in", "登录";
    token: "Token", "令牌";
    sign_in_about:
        "Paste a bearer token of a user or service account of the cluster. You may do here what you may do \
         with kubectl.",
        "请粘贴集群中某个用户或服务账号的 Bearer 令牌。您在此处的权限与 kubectl 相同。";
    how_token: "A token is made, for example, with:", "例如可用以下命令生成令牌：";
    kept:
        "The token stays in a cookie of this browser that scripts cannot read, until you sign out or close \
         the browser.",
        "令牌保存在此浏览器中脚本无法读取的 Cookie 里，直到退出登录或关闭浏览器。";
    needs_https:
        "Browsers keep this cookie over HTTPS only, or on localhost. Over plain HTTP, use kubectl \
         port-forward and open localhost, or start the service with TLS.",
        "浏览器仅在 HTTPS 或 localhost 下保存该 Cookie。使用明文 HTTP 时，请通过 kubectl port-forward 打开 \
         localhost，或为服务启用 TLS。";
    not_kept: "The token is valid, but the browser has not kept it.", "令牌有效，但浏览器没有保存它。";
    problem: "That did not work", "操作未成功";
    back: "Back", "返回";
    wrong_name:
        "The name that was typed is not the gr's: nothing was done.",
        "输入的名称与 gr 不符：未执行任何操作。";
    forged:
        "The form was not one of this service, or was made before it was restarted: nothing was done. Go \
         back, load the page again, and try once more.",
        "该表单不是由本服务生成，或生成于服务重启之前：未执行任何操作。请返回并重新加载页面后再试。";
}

impl Words {
    /// A phase in a word.
    pub fn phase(&self, phase: Phase) -> &'static str {
        let (english, chinese) = match phase {
            Phase::Pending => ("Pending", "等待处理"),
            Phase::Running => ("Running", "进行中"),
            Phase::Paused => ("Paused", "已暂停"),
            Phase::Held => ("Held", "受阻暂停"),
            Phase::Succeeded => ("Succeeded", "成功"),
            Phase::RolledBack => ("Rolled back", "已回滚"),
            Phase::Failed => ("Failed", "失败"),
        };
        self.one_of(english, chinese)
    }

    /// A node's condition in a word.
    pub fn condition(&self, condition: NodeRolloutState) -> &'static str {
        let (english, chinese) = match condition {
            NodeRolloutState::Failed => ("Failed", "失败"),
            NodeRolloutState::Late => ("Late", "超时"),
            NodeRolloutState::LeftOut => ("Left out", "已跳过"),
            NodeRolloutState::Emptying => ("Emptying", "正在清空"),
            NodeRolloutState::Swapping => ("Swapping", "正在替换"),
            NodeRolloutState::Returning => ("Returning", "正在归还"),
            NodeRolloutState::Starting => ("Starting", "正在启动"),
            NodeRolloutState::Outdated => ("Outdated", "待升级"),
            NodeRolloutState::Current => ("Current", "已是最新"),
        };
        self.one_of(english, chinese)
    }

    /// Why an upgrade stood still, in a word or two.
    pub fn standstill(&self, cause: Standstill) -> &'static str {
        let (english, chinese) = match cause {
            Standstill::Paused => ("Paused by a person", "人工暂停"),
            Standstill::AwaitingPromotion => ("Waited for promote", "等待放行"),
            Standstill::Held => ("Held", "受阻"),
            Standstill::BetweenSteps => ("Pause between steps", "步骤间隔"),
        };
        self.one_of(english, chinese)
    }

    /// A strategy in a word: these are names, and stay as the API writes them.
    pub fn strategy_name(&self, strategy: Strategy) -> &'static str {
        match strategy {
            Strategy::Recreate => "Recreate",
            Strategy::RollingUpdate => "RollingUpdate",
        }
    }

    fn one_of(&self, english: &'static str, chinese: &'static str) -> &'static str {
        if std::ptr::eq(self.site, ENGLISH.site) || self.site == ENGLISH.site { english } else { chinese }
    }
}
