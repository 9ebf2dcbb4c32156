//! Who may do what on the page, and what a form has to carry.

use axum::body::Body;
use gcu_upgrade_manager::app::Service;
use http::{Request, StatusCode};

use tokio::net::TcpListener;

use crate::access::{Shared, before_reviews};
use crate::harness::Answer;

use super::browser::{Browser, Setup};
use super::{GR, NAME};

const API: &str = "/gum/v1/gr/enflame-gcu-resource";

async fn ask(service: &Service, method: &str, path: &str, cookie: &str, body: &str) -> Answer {
    let request =
        Request::builder().method(method).uri(path).header("host", "127.0.0.1").header("cookie", cookie);
    Answer::of(service.router(), request.body(Body::from(body.to_owned())).unwrap()).await
}

/// Between two words of a text.
fn between<'t>(text: &'t str, before: &str, after: &str) -> &'t str {
    let (_, rest) = text.split_once(before).unwrap_or_else(|| panic!("no {before}: {text}"));
    rest.split(after).next().unwrap()
}

fn proof(page: &Answer) -> String {
    between(&page.text, "name=\"forgery\" value=\"", "\"").to_owned()
}

/// Signs in, and returns the cookie as a browser sends it back.
async fn sign_in(service: &Service, token: &str) -> String {
    let form = ask(service, "GET", "/ui/sign-in", "", "").await;
    let body = format!("forgery={}&token={token}", proof(&form));
    let answer = ask(service, "POST", "/ui/sign-in", "", &body).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.text);
    let cookie = answer.header("set-cookie").unwrap();
    for attribute in ["; Path=/", "; Secure", "; HttpOnly", "; SameSite=Strict"] {
        assert!(cookie.contains(attribute), "{cookie}");
    }
    cookie.split(';').next().unwrap().to_owned()
}

fn reviews() -> Shared {
    let reviews = Shared::default();
    let mut said = reviews.lock().unwrap();
    for (token, user) in [("t-reader", "reader"), ("t-doer", "doer"), ("t-stranger", "stranger")] {
        said.users.insert(token.to_owned(), user.to_owned());
    }
    for (user, verb) in
        [("reader", "list"), ("reader", "get"), ("doer", "list"), ("doer", "get"), ("doer", "update")]
    {
        said.rights.push((user.to_owned(), verb.to_owned()));
    }
    drop(said);
    reviews
}

#[tokio::test(start_paused = true)]
async fn whoever_is_not_signed_in_meets_the_form_and_a_wrong_token_is_not_kept() {
    let (_harness, service) = before_reviews(reviews()).await;
    for path in ["/ui/", GR] {
        let answer = ask(&service, "GET", path, "", "").await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{path}");
        assert!(answer.text.contains("action=\"/ui/sign-in\""), "{}", answer.text);
    }
    let form = ask(&service, "GET", "/ui/sign-in", "", "").await;
    let wrong = format!("forgery={}&token=t-wrong", proof(&form));
    let answer = ask(&service, "POST", "/ui/sign-in", "", &wrong).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert!(answer.text.contains("the token is not valid") && answer.header("set-cookie").is_none());
    let forged = ask(&service, "POST", "/ui/sign-in", "", "forgery=00&token=t-doer").await;
    assert_eq!(forged.status, StatusCode::FORBIDDEN);
    assert!(forged.header("set-cookie").is_none());
    let without = ask(&service, "GET", "/ui/sign-in?signed-in", "", "").await;
    assert!(without.text.contains("the browser has not kept it"), "{}", without.text);
    // Whoever makes the link chooses no other place to lead to.
    let cookie = sign_in(&service, "t-doer").await;
    for (next, place) in [(GR, GR), ("//elsewhere.example/ui/", "/ui/"), ("/gum/v1/gr", "/ui/"), ("", "/ui/")]
    {
        let on = ask(&service, "GET", &format!("/ui/sign-in?signed-in&next={next}"), &cookie, "").await;
        assert_eq!(on.header("location"), Some(place), "{next}");
    }
}

#[tokio::test(start_paused = true)]
async fn buttons_are_there_for_those_who_may_press_them_and_the_rest_is_refused() {
    let (harness, service) = before_reviews(reviews()).await;
    harness.write("gr-full.yaml", include_str!("../../../blueprints/gr-full.yaml"));
    let doer = sign_in(&service, "t-doer").await;
    let page = ask(&service, "GET", GR, &doer, "").await;
    assert_eq!(page.status, StatusCode::OK, "{}", page.text);
    assert!(page.text.contains(">doer<"), "it says who is signed in");
    let rolling = "%7B%22file%22%3A%22gr-full.yaml%22%2C%22strategy%22%3A%22RollingUpdate%22%7D";
    let begin = format!("forgery={}&command=upgrade&confirm={NAME}&body={rolling}", proof(&page));
    let began = ask(&service, "POST", &format!("{GR}/do"), &doer, &begin).await;
    assert_eq!(began.status, StatusCode::SEE_OTHER, "{}", began.text);
    let record = harness.record(1).await.unwrap();
    assert_eq!(record.spec.requested_by.as_deref(), Some("doer"));

    let reader = sign_in(&service, "t-reader").await;
    let page = ask(&service, "GET", GR, &reader, "").await;
    assert_eq!(page.status, StatusCode::OK);
    assert!(page.text.contains("You may look but not change anything here"), "{}", page.text);
    assert!(!page.text.contains("/do\""), "no form that changes anything: {}", page.text);
    let pause = format!("forgery={}&command=pause", proof(&page));
    let refused = ask(&service, "POST", &format!("{GR}/do"), &reader, &pause).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    assert!(refused.text.contains("may not update"), "{}", refused.text);

    let stranger = sign_in(&service, "t-stranger").await;
    let page = ask(&service, "GET", GR, &stranger, "").await;
    assert_eq!(page.status, StatusCode::FORBIDDEN);
    assert!(page.text.contains("may not get") && page.text.starts_with("<!DOCTYPE html>"), "{}", page.text);
}

#[tokio::test(start_paused = true)]
async fn no_change_is_made_on_the_word_of_a_cookie_without_a_form_of_ours() {
    let (harness, service) = before_reviews(reviews()).await;
    let doer = sign_in(&service, "t-doer").await;
    let reader = sign_in(&service, "t-reader").await;
    let its = proof(&ask(&service, "GET", GR, &doer, "").await);
    let others = proof(&ask(&service, "GET", GR, &reader, "").await);
    assert_ne!(its, others, "a proof is one caller's");
    for forgery in ["", "00", &others, &its.to_uppercase()[1..]] {
        let body = format!("forgery={forgery}&command=rollback&confirm={NAME}");
        let answer = ask(&service, "POST", &format!("{GR}/do"), &doer, &body).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{forgery}: {}", answer.text);
    }
    // The API itself takes the cookie for looks alone.
    assert_eq!(ask(&service, "GET", API, &doer, "").await.status, StatusCode::OK);
    for (method, path) in
        [("PUT", API.to_owned()), ("POST", format!("{API}/rollback")), ("DELETE", API.to_owned())]
    {
        let answer = ask(&service, method, &path, &doer, r#"{"file": "gr.json"}"#).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{method} {path}: {}", answer.text);
    }
    // A cookie that was not made here is none.
    let tampered = doer.replace("t-doer", "t-reader");
    assert_eq!(ask(&service, "GET", API, &tampered, "").await.status, StatusCode::UNAUTHORIZED);
    // A wrong name is nothing that was meant.
    let body = format!("forgery={its}&command=upgrade&confirm=other&body=%7B%22file%22%3A%22gr.json%22%7D");
    let answer = ask(&service, "POST", &format!("{GR}/do"), &doer, &body).await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(harness.record(1).await.is_none(), "nothing was begun");
    let out = ask(&service, "POST", "/ui/sign-out", &doer, &format!("forgery={its}")).await;
    assert!(out.header("set-cookie").unwrap().contains("Max-Age=0"));
}

#[tokio::test(start_paused = true)]
async fn every_page_says_what_it_may_load_and_where_it_may_stand() {
    let (_harness, service) = before_reviews(reviews()).await;
    let doer = sign_in(&service, "t-doer").await;
    for path in ["/ui/", GR, "/ui/gr/absent", "/ui/sign-in", "/ui/gr/enflame-gcu-resource?sort=up&by=-"] {
        let answer = ask(&service, "GET", path, &doer, "").await;
        let rules = answer.header("content-security-policy").unwrap_or_else(|| panic!("{path}"));
        assert!(rules.starts_with("default-src 'none'; ") && !rules.contains("unsafe"), "{rules}");
        assert!(rules.contains("frame-ancestors 'none'") && rules.contains("form-action 'self'"), "{rules}");
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{path}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{path}");
        assert!(!answer.text.contains("t-doer"), "the token is in no page");
    }
    for (language, words) in [("zh-CN", "升级"), ("en", "Upgrades")] {
        let answer = ask(&service, "GET", &format!("/ui/?lang={language}"), &doer, "").await;
        assert!(answer.text.contains(&format!("<html lang=\"{language}\">")) && answer.text.contains(words));
        let kept = answer.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
        let again = ask(&service, "GET", "/ui/", &format!("{doer}; {kept}"), "").await;
        assert!(again.text.contains(&format!("<html lang=\"{language}\">")), "the choice is kept");
    }
}

#[test]
fn a_browser_signs_in_keeps_the_token_from_scripts_and_signs_out() {
    let Some(browser) = Browser::start(Setup::default()) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (address, _cluster) = runtime.block_on(async {
        let (harness, service) = before_reviews(reviews()).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let settings = gcu_upgrade_manager::http::Settings::plain(Default::default());
        let serving =
            gcu_upgrade_manager::http::serve(listener, service.router(), settings, Default::default());
        tokio::spawn(serving);
        (address, (harness, service))
    });
    // Over plain HTTP browsers keep the cookie of localhost alone.
    let url = |path: &str| format!("http://localhost:{}{path}", address.port());
    browser.go(&url(GR));
    browser.until("h1", "Sign in");
    assert_eq!(browser.barriers(), serde_json::json!([]), "of the form that takes a token");
    browser.fill("#token", "t-wrong");
    browser.click("main button.primary");
    browser.until("[role=alert]", "the token is not valid");
    browser.fill("#token", "t-reader");
    browser.click("main button.primary");
    browser.until(".user", "reader");
    assert_eq!(browser.url(), url(GR), "where it wanted to go");
    assert_eq!(browser.script("return document.cookie"), "", "no script sees the token");
    browser.until("#status", "You may look but not change anything here");
    assert!(browser.text("#status form").is_none(), "no button");
    browser.click(".top form button");
    browser.until("h1", "Sign in");
    browser.go(&url("/ui/"));
    browser.until("h1", "Sign in");
}
