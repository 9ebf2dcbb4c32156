//! Pages that say one thing: sign in, and what did not work.

use maud::html;

use super::Shell;

/// What the form to sign in says beside what it always says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignIn<'a> {
    /// Nothing.
    Asked,
    /// Why the last token was not taken.
    Refused(&'a str),
    /// The browser does not keep the cookie.
    NotKept,
}

/// The form that takes a token; `next` is the path to go on to.
pub fn sign_in_page(shell: &Shell<'_>, said: SignIn<'_>, next: &str) -> String {
    let words = shell.words();
    let main = html! {
        section.narrow {
            h1 { (words.sign_in) }
            @match said {
                SignIn::Asked => {}
                SignIn::Refused(why) => { p.alert role="alert" lang="en" { (why) } }
                SignIn::NotKept => { p.alert role="alert" { (words.not_kept) " " (words.needs_https) } }
            }
            p { (words.sign_in_about) }
            form.stack method="post" action="/ui/sign-in" {
                (shell.forgery())
                input type="hidden" name="next" value=(next);
                label for="token" { (words.token) }
                input id="token" name="token" type="password" required autocomplete="off" spellcheck="false";
                button.primary type="submit" { (words.sign_in) }
            }
            p { (words.how_token) }
            (shell.typed("kubectl create token default"))
            p.dim { (words.kept) " " (words.needs_https) }
        }
    };
    shell.page(words.sign_in, &main)
}

/// Says what did not work, in the words of whoever refused it.
pub fn notice_page(shell: &Shell<'_>, message: &str, ours: bool, back: &str) -> String {
    let words = shell.words();
    let main = html! {
        section.narrow {
            h1 { (words.problem) }
            p.alert role="alert" lang=[(!ours).then_some("en")] { (message) }
            p { a href=(back) { (words.back) } }
        }
    };
    shell.page(words.problem, &main)
}
