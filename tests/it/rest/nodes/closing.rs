//! What ends with the present state, and what is given more time instead.

use gcu_upgrade_manager::record::{Intent, Step};

use super::*;

/// After a close: the record, and that nothing of the upgrade is left on any node.
async fn assert_closed(harness: &Harness, about: &str) {
    let status = harness.record(1).await.unwrap().status_or_default();
    let ended = status.holding("Finished").unwrap_or_else(|| panic!("{about}: {status:?}"));
    assert_eq!((status.phase, ended.reason.as_str()), (Phase::Failed, "Closed"), "{about}");
    assert!(ended.message.starts_with("closed by request"), "{about}: {}", ended.message);
    for name in ["node-1", "node-2", "node-3"] {
        assert_eq!(node(harness, name).await, (false, false), "{about}: {name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_rolling_update_is_closed_wherever_it_stands_and_the_next_upgrade_does_the_rest() {
    let moments = [
        "just asked for",
        "locking",
        "a node in work",
        "the canary is done",
        "held",
        "on its way back",
        "deleted",
    ];
    for moment in moments {
        let mut harness = if moment == "held" { held_at_node_2().await } else { fleet(3).await };
        match moment {
            "held" => {}
            "the canary is done" | "on its way back" => start(&harness, &json!({ "canary": 1 })).await,
            _ => start(&harness, &json!({})).await,
        }
        match moment {
            "just asked for" => {}
            "locking" => {
                harness.until(moment, 1, LONG, |r| r.unwrap().status_or_default().step == Step::Locking).await
            }
            "held" => {}
            "the canary is done" => until_phase(&mut harness, 1, Phase::Paused).await,
            "on its way back" => {
                until_phase(&mut harness, 1, Phase::Paused).await;
                assert_eq!(harness.must("POST", &format!("{GR}/cancel"), "").await.status, 200);
            }
            _ => {
                let in_work = |r: Option<&gcu_upgrade_manager::record::GcuUpgrade>| {
                    r.unwrap().status_or_default().rolling.is_some_and(|r| !r.active.is_empty())
                };
                harness.until(moment, 1, LONG, in_work).await;
                if moment == "deleted" {
                    harness.records().delete(&harness.record_name(1), &Default::default()).await.unwrap();
                }
            }
        }
        let closed = harness.must("POST", &format!("{GR}/close?wait=10m"), "").await;
        assert_eq!(closed.status, 200, "{moment}: {}", closed.text);
        assert_envelope(&closed, "Close", true);
        let content = closed.json()["content"].clone();
        assert_eq!(content["phase"], "Failed", "{moment}: {content:#}");
        assert!(effect(&closed).starts_with("the upgrade ends with the present state"), "{content:#}");
        if moment == "deleted" {
            harness.until("the record's end", 1, LONG, |r| r.is_none()).await;
        } else {
            assert_closed(&harness, moment).await;
            let late = harness.must("POST", &format!("{GR}/close"), "").await;
            assert_eq!(late.error(), "enflame-gcu-resource-1 has ended: nothing to close");
        }
        if moment == "held" {
            continue;
        }
        sleep(Duration::from_secs(600)).await;
        start(&harness, &json!({})).await;
        let number = if moment == "deleted" { 1 } else { 2 };
        assert_eq!(harness.until_final(number).await, Phase::Succeeded, "{moment}");
        assert_eq!(versions(&harness).await, ["9.9.9"; 3], "{moment}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_being_closed_takes_no_other_command_and_a_close_once_more_waits_for_its_end() {
    let harness = held_at_node_2().await;
    let refused =
        Rule { on: "PATCH nodes/".to_owned(), skip: 0, times: usize::MAX, fault: Fault::Answer(500) };
    harness.faults.add(refused);
    let before = harness.record(1).await.unwrap().spec;
    let dry = harness.must("POST", &format!("{GR}/close?dryRun=true"), "").await;
    assert_eq!(dry.json()["content"]["dryRun"], true, "{}", dry.text);
    assert_eq!(harness.record(1).await.unwrap().spec, before);
    assert_eq!(harness.must("POST", &format!("{GR}/close"), "").await.status, 200);
    assert_eq!(harness.record(1).await.unwrap().spec.intent, Intent::Close);
    sleep(Duration::from_secs(60)).await;
    for command in [
        "pause",
        "resume",
        "cancel",
        "promote",
        "rollback",
        "retry",
        "nodes/node-1/skip",
        "nodes/node-2/retry",
    ] {
        let answer = harness.must("POST", &format!("{GR}/{command}"), "").await;
        assert_eq!(answer.status, 409, "{command}: {}", answer.text);
        let says = "enflame-gcu-resource-1 is being closed: it ends with the present state";
        assert_eq!(answer.error(), says, "{command}");
    }
    let waits = harness.must("POST", &format!("{GR}/close?wait=1m"), "").await;
    assert_eq!(waits.status, 409, "it has not ended: {}", waits.text);
    assert!(waits.error().contains("has not ended after 60s and goes on"), "{}", waits.text);
    harness.faults.heal();
    let closed = harness.must("POST", &format!("{GR}/close?wait=10m"), "").await;
    assert_eq!(closed.status, 200, "{}", closed.text);
    assert_closed(&harness, "in the end").await;
}

#[tokio::test(start_paused = true)]
async fn a_recreate_is_closed_while_the_gr_starts_and_not_while_the_stack_is_down() {
    let mut harness = harness().await;
    harness.world.change_operator(|o| o.finalizer_stuck = true);
    harness.must("PUT", GR, PUT_BODY).await;
    harness.until("the wait", 1, LONG, |r| r.unwrap().status_or_default().step == Step::WaitingGone).await;
    let down = harness.must("POST", &format!("{GR}/close"), "").await;
    assert_eq!(down.status, 409, "{}", down.text);
    assert!(
        down.error().ends_with("before the new version is created; cancel turns it back"),
        "{}",
        down.text
    );
    harness.world.change_operator(|o| {
        o.finalizer_stuck = false;
        o.stuck_components.insert("driver".to_owned());
    });
    harness
        .until("the start", 1, LONG, |r| r.unwrap().status_or_default().step == Step::WaitingRunning)
        .await;
    let closed = harness.must("POST", &format!("{GR}/close?wait=1m"), "").await;
    assert_eq!(
        (closed.status.as_u16(), &closed.json()["content"]["phase"]),
        (200, &json!("Failed")),
        "{}",
        closed.text
    );
    let status = harness.record(1).await.unwrap().status_or_default();
    assert_eq!(status.holding("Finished").unwrap().reason, "Closed");
    let gr = harness.must("GET", GR, "").await.json();
    let wanted: Value = serde_json::from_str(BLUEPRINT).unwrap();
    assert_eq!(gr["content"]["spec"]["driver"], wanted["spec"]["driver"], "the gr is left as it is");
}

#[tokio::test(start_paused = true)]
async fn a_recreate_that_is_turned_back_while_its_stack_is_down_can_be_given_more_time() {
    let mut harness = harness().await;
    harness.world.change_operator(|o| o.finalizer_stuck = true);
    harness.must("PUT", GR, PUT_BODY).await;
    harness.until("the wait", 1, LONG, |r| r.unwrap().status_or_default().step == Step::WaitingGone).await;
    assert_eq!(harness.must("POST", &format!("{GR}/cancel"), "").await.status, 200);
    sleep(Duration::from_secs(300)).await;
    let down = harness.must("POST", &format!("{GR}/close"), "").await;
    assert!(down.error().ends_with("retry gives the step a fresh deadline"), "{}", down.text);
    let before = harness.record(1).await.unwrap().status_or_default().deadline.unwrap();
    let retried = harness.must("POST", &format!("{GR}/retry"), "").await;
    assert_eq!(effect(&retried), "the step goes on with a fresh deadline");
    sleep(Duration::from_secs(5)).await;
    let after = harness.record(1).await.unwrap().status_or_default().deadline.unwrap();
    assert!(after.duration_since(before).as_secs() > 200, "{before} {after}");
    harness.world.change_operator(|o| o.finalizer_stuck = false);
    assert_eq!(harness.until_final(1).await, Phase::RolledBack);
}
