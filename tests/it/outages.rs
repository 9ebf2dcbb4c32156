//! An API server that is overloaded, fails or is away, as tables: which answer to which call, and which kind of
//! absence at which moment. The end has to be the same as in a run without, in the time that the cluster needs.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::faults::{Call, Fault, Faults, Rule};
use crate::harness::Backend;
use crate::scenario::{self, End, Scenario};
use crate::scenarios::in_virtual_time;

const RECREATE: &str = r#"
claim: a Recreate
blueprints: { gr.json: { /spec/gfd/version: 2.1.0 } }
steps: [{ call: { request: "PUT /gum/v1/gr/{gr}", body: { file: gr.json }, status: 200 } }]
expect: { records: { 1: Succeeded }, created: 1, deleted: 1, runs: gr.json }
"#;

const ROLLING: &str = r#"
claim: a RollingUpdate that has to evict
world: { nodes: 3, tenants: [{ name: train, node: node-2, gcus: 2 }] }
blueprints: { gr.json: { /spec/toolkit/version: 2.1.0 } }
steps:
  - call:
      request: "PUT /gum/v1/gr/{gr}"
      body: { file: gr.json, strategy: RollingUpdate, rollingUpdate: { order: Name } }
      status: 200
expect: { records: { 1: Succeeded }, created: 0, deleted: 0, runs: gr.json, evicted: [train] }
"#;

const STRATEGIES: [(&str, &str); 2] = [("Recreate", RECREATE), ("RollingUpdate", ROLLING)];
/// Watches without whose beginning a rollout knows nothing.
const BEGUN_BY_A_ROLLOUT: [&str; 4] = [
    "WATCH /api/v1/namespaces/kube-system/pods",
    "WATCH /api/v1/nodes",
    "WATCH /api/v1/pods",
    "WATCH /apis/apps/v1/namespaces/kube-system/controllerrevisions",
];
/// The time that the end may take after the last fault beside what the cluster needs.
const AFTERWARDS: Duration = Duration::from_secs(120);
const SILENCE: Duration = Duration::from_secs(60);

struct Run {
    end: End,
    calls: Vec<Call>,
    took: Duration,
    /// Since the last fault.
    after: Duration,
    happened: usize,
}

fn run(text: &str, rules: Vec<Rule>, more_steps: &str) -> Run {
    let mut scenario: Scenario = serde_saphyr::from_str(text).unwrap();
    let more: Vec<_> = serde_saphyr::from_str(more_steps).unwrap();
    scenario.steps.extend(more);
    let faults = Faults::new(rules);
    in_virtual_time(async {
        let begun = Instant::now();
        let end = scenario::run(&scenario, Backend::Sandbox, None, faults.clone(), SILENCE).await.unwrap();
        let after = faults.last().map(|at| at.elapsed()).unwrap_or_default();
        Run { end, took: begun.elapsed(), after, calls: faults.calls(), happened: faults.happened() }
    })
}

fn is_watch(call: &Call) -> bool {
    call.path.contains("watch=")
}

/// What a rule has to say to meet calls like this one.
fn kind(call: &Call) -> String {
    let path = call.path.split('?').next().unwrap_or_default();
    let plurals =
        ["gcuresources", "gcuupgrades", "daemonsets", "controllerrevisions", "pods", "nodes", "events"];
    let end = plurals.iter().find_map(|plural| Some(path.find(&format!("/{plural}"))? + plural.len() + 1));
    let method = if is_watch(call) { "WATCH" } else { &call.method };
    format!("{method} {}", path.get(..end.unwrap_or(path.len())).unwrap_or_default())
}

/// The kinds of call that an upgrade makes, each with how many of the kind come before it.
fn kinds(calls: &[Call]) -> BTreeMap<String, usize> {
    let asked = calls.iter().position(|c| c.method == "POST" && c.path.contains("gcuupgrades")).unwrap();
    let (before, during) = calls.split_at(asked + 1);
    // As a rule goes by it: part of the path.
    let met = |on: &str, c: &&Call| {
        let (method, part) = on.split_once(' ').unwrap();
        c.path.contains(part)
            && if method == "WATCH" { is_watch(c) } else { c.method == method && !is_watch(c) }
    };
    during.iter().map(kind).map(|on| (on.clone(), before.iter().filter(|c| met(&on, c)).count())).collect()
}

#[test]
fn whatever_an_overloaded_or_failing_api_server_answers_to_any_call_the_upgrade_ends_as_without() {
    let answers = || {
        let throttled = ["0", "1", "3600", "soon"].map(|after| Fault::Throttle(429, after.to_owned()));
        throttled.into_iter().chain([500, 502, 503, 504].map(Fault::Answer))
    };
    for (strategy, text) in STRATEGIES {
        let clean = run(text, Vec::new(), "[]");
        for (on, before) in kinds(&clean.calls) {
            println!("{strategy}: {on}");
            // One after the other, from the first such call of the upgrade on.
            let rules = answers().map(|fault| Rule { on: on.clone(), skip: before, times: 1, fault });
            let faulty = run(text, rules.collect(), "[]");
            assert!(faulty.happened > 0, "{strategy}: {on} was met");
            assert_eq!(faulty.end, clean.end, "{strategy}: {on}");
            let most = clean.took + AFTERWARDS;
            assert!(faulty.after < most, "{strategy}: {on}: {:?} after the last fault", faulty.after);
        }
    }
}

/// At the first call of this kind after so many.
type Moment = (&'static str, usize);

const MOMENTS: [(&str, &[Moment]); 2] = [
    (
        RECREATE,
        &[
            ("DELETE /apis/topsops", 0),
            ("PUT /apis/gum.enflame.com", 2),
            ("POST /apis/topsops", 0),
            ("PUT /apis/gum.enflame.com", 7),
        ],
    ),
    (
        ROLLING,
        &[
            ("PATCH /apis/apps/v1", 0),
            ("PATCH /apis/topsops", 2),
            ("PATCH /api/v1/nodes/", 0),
            ("POST /api/v1/namespaces/default/pods/", 0),
            ("DELETE /api/v1/namespaces/kube-system/pods/", 3),
            ("PATCH /api/v1/nodes/", 3),
        ],
    ),
];

#[test]
fn an_api_server_that_is_away_for_a_while_at_any_moment_costs_that_while_and_nothing_else() {
    let ways = [
        (Fault::Refuse, "1s"),
        (Fault::Refuse, "20m"),
        (Fault::LoseAnswer, "60s"),
        (Fault::Hang, "60s"),
        (Fault::Answer(503), "1h"),
        (Fault::Delay("29s".to_owned()), "60s"),
        (Fault::Delay("100ms".to_owned()), "10m"),
    ];
    for (text, moments) in MOMENTS {
        let clean = run(text, Vec::new(), "[]");
        for (number, (on, skip)) in moments.iter().enumerate() {
            // Not every way at every moment: each moment sees others of them.
            for (how, time) in ways.iter().skip(number % 4).step_by(4) {
                println!("{on} after {skip}: {how:?} for {time}");
                let fault = Fault::Away(Box::new(how.clone()), (*time).to_owned());
                let rule = Rule { on: (*on).to_owned(), skip: *skip, times: 1, fault };
                let away = run(text, vec![rule], "[{ until_away: {} }]");
                assert_eq!(away.end, clean.end, "{on} after {skip}: {how:?} for {time}");
                let most = clean.took + AFTERWARDS;
                assert!(away.after < most, "{on}: {how:?} for {time}: {:?} after the last fault", away.after);
                if *time == "1h" && !matches!(how, Fault::Delay(_)) {
                    // What looks for APIs and for the CRD asks twelve times a minute each, all else twice.
                    let most = clean.calls.len() + 60 * 60;
                    assert!(away.calls.len() < most, "{on}: {how:?}: {} calls", away.calls.len());
                }
            }
        }
    }
}

#[test]
fn a_call_that_stays_refused_is_held_at_its_deadline_with_the_refusal_and_gone_on_with_when_it_is_allowed() {
    let deadlines = "deadlines: { gone: 30s, create: 30s, running: 30s, propagate: 30s, node: 30s }";
    let mut number = 0;
    let on_old = STRATEGIES.map(|(strategy, text)| (strategy, text, true));
    for (strategy, text, old) in on_old.into_iter().chain([("RollingUpdate", ROLLING, false)]) {
        let text = text.replace("file: gr.json", &format!("file: gr.json, {deadlines}"));
        let text = text.replace("order: Name", "order: Name, drain: { timeout: 30s }");
        // An old cluster is listed, a newer one begins its watches with what is there.
        let text = match old {
            true if text.contains("world: {") => text.replace("world: {", "world: { old: true,"),
            true => text.replace("blueprints:", "world: { old: true }\nblueprints:"),
            false => text,
        };
        let clean = run(&text, Vec::new(), "[]");
        let mut kinds = kinds(&clean.calls);
        if !old {
            kinds.retain(|on, _| BEGUN_BY_A_ROLLOUT.contains(&on.as_str()));
            assert_eq!(kinds.len(), BEGUN_BY_A_ROLLOUT.len());
        }
        for (on, before) in kinds {
            // What tells, what looks for APIs, a watch: an upgrade goes on without. So it does without the events of
            // pods that cannot be created: then its deadline finds them. Where the record itself cannot be written
            // nothing can be said in it.
            let events =
                ["POST /api/v1/namespaces/default/events", "GET /api/v1/namespaces/kube-system/events"];
            let watches: &[&str] = if old { &["WATCH "] } else { &[] };
            let unheard = [&events[..], watches, &["GET /apis/apiextensions"]].concat();
            let record = ["PUT /apis/gum", "PATCH /apis/gum"];
            if unheard.iter().chain(&record).any(|other| on.starts_with(other))
                || ["GET /apis", "GET /apis/topsops.enflame.com/v1"].contains(&on.as_str())
                // Asked in passing, for a progress that nobody waits for.
                || (strategy == "Recreate" && on == "GET /api/v1/nodes")
            {
                continue;
            }
            number += 1;
            // A rule that was taken away, and a server that cannot: both last.
            let (code, says) = if number % 2 == 0 { (403, "Forbidden") } else { (503, "made up by a fault") };
            println!("{strategy}: {on}: {code}");
            let rule = Rule { on: on.clone(), skip: before, times: usize::MAX, fault: Fault::Answer(code) };
            let steps = format!(
                "[{{ until: {{ record: 1, phase: Held, says: [{says}] }} }}, {{ pass: 10m }}, {{ heal: {{}} }}]"
            );
            let held = run(&text, vec![rule], &steps);
            assert_eq!(held.end, clean.end, "{strategy}: {on}: {code}");
            let most = clean.took + AFTERWARDS;
            assert!(held.after < most, "{strategy}: {on}: {:?} after the last fault", held.after);
        }
    }
}
