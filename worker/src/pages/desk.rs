//! The login desk of an account: what somebody far away asks of its login page, handed to the page that serves it.
//!
//! One page of an account serves, the first of its platform's file: the pages share one session. What is asked while
//! that page is being loaded waits for it, within the bound of whoever asks.

use std::sync::Arc;

use snapfleet_protocol::login::LOGIN_PICTURE_BYTES_MAX;
use snapfleet_protocol::{CommandAnswer, LoginInput, LoginKey, LoginPart, LoginPicture, LoginScene};
use tokio::sync::{Mutex, mpsc, oneshot};

use super::attempts::Attempts;
use super::login::Login;
use super::pending::Pending;
use crate::browser::{CallError, Picture, Tab};
use crate::steering::Steering;

/// What waits for the page, at most.
const WAITING_MAX: usize = 8;
/// How long a page may take to answer an input before it is pictured.
const INPUT_PAUSE: std::time::Duration = std::time::Duration::from_millis(400);

/// What is asked.
#[derive(Debug, Clone)]
pub(crate) enum LoginWish {
    /// To see the page; from then on the login is pending.
    View(LoginPart),
    /// To do something on it.
    Input(LoginInput),
    /// To leave it.
    End,
}

/// One question, and where its answer goes.
pub(crate) struct LoginAsk {
    pub(crate) wish: LoginWish,
    pub(crate) answer: oneshot::Sender<CommandAnswer>,
}

/// The side of those who ask.
#[derive(Debug, Clone)]
pub(crate) struct Bell(mpsc::Sender<LoginAsk>);

/// The pages' side. Clones share it; the default is one at which nobody ever asks.
#[derive(Debug, Clone)]
pub struct Desk {
    asks: Arc<Mutex<mpsc::Receiver<LoginAsk>>>,
    pending: Pending,
    attempts: Attempts,
}

impl Default for Desk {
    fn default() -> Self {
        desk().1
    }
}

/// Both sides.
pub(crate) fn desk() -> (Bell, Desk) {
    let (bell, asks) = mpsc::channel(WAITING_MAX);
    let asks = Arc::new(Mutex::new(asks));
    (Bell(bell), Desk { asks, pending: Pending::default(), attempts: Attempts::default() })
}

impl Bell {
    /// Asks; the answer is to be waited for with a bound.
    ///
    /// # Errors
    /// Why nothing can be asked.
    pub(crate) fn ask(&self, wish: LoginWish) -> Result<oneshot::Receiver<CommandAnswer>, String> {
        let (answer, answered) = oneshot::channel();
        match self.0.try_send(LoginAsk { wish, answer }) {
            Ok(()) => Ok(answered),
            Err(mpsc::error::TrySendError::Full(_)) => {
                Err("its login page is asked too much at once: ask again in a few seconds".to_owned())
            }
            Err(mpsc::error::TrySendError::Closed(_)) => Err("it has no pages that could log in".to_owned()),
        }
    }
}

impl Desk {
    /// The next question that somebody still waits for; never, where nobody can ask any more.
    pub(super) async fn next(&self) -> LoginAsk {
        let mut asks = self.asks.lock().await;
        loop {
            match asks.recv().await {
                Some(ask) if ask.answer.is_closed() => {}
                Some(ask) => return ask,
                None => std::future::pending().await,
            }
        }
    }

    /// What became of the attempts to fill in the login form.
    pub(super) fn attempts(&self) -> &Attempts {
        &self.attempts
    }

    /// Whether somebody is logging in by hand.
    pub(super) fn pending(&self) -> &Pending {
        &self.pending
    }

    /// Waits until nobody is logging in by hand: what is done to the pages then takes nobody's page away. Tells whether
    /// there was somebody.
    pub(crate) async fn undisturbed(&self) -> bool {
        let waits = self.pending.until().is_some();
        self.pending.over().await;
        waits
    }
}

/// The page that serves.
pub(super) struct Counter<'a> {
    pub(super) login: Option<&'a Login>,
    pub(super) steering: &'a Steering,
    pub(super) tab: &'a Tab,
    pub(super) page: &'a str,
}

impl Counter<'_> {
    /// Does what is asked, and answers; tells whether something was done on the page.
    ///
    /// # Errors
    /// Where the tab does not answer; who asked is told as well.
    pub(super) async fn serve(&self, ask: LoginAsk) -> Result<bool, CallError> {
        let Some(login) = self.login else {
            let reason = "its platform needs no login".to_owned();
            let _ = ask.answer.send(CommandAnswer::Refused { reason });
            return Ok(false);
        };
        let done = self.answer(login, &ask.wish).await;
        let (answer, outcome) = match done {
            Ok(answer) => (answer, Ok(matches!(ask.wish, LoginWish::Input(_)))),
            Err(error) => {
                let reason = format!("its login page cannot be used: {error}");
                (CommandAnswer::Refused { reason }, Err(error))
            }
        };
        // Who has gone meanwhile asks again.
        let _ = ask.answer.send(answer);
        match outcome {
            // What the page refuses, such as a click beside it, is told, and no reason to load it anew.
            Err(CallError::Refused { .. }) => Ok(false),
            outcome => outcome,
        }
    }

    async fn answer(&self, login: &Login, wish: &LoginWish) -> Result<CommandAnswer, CallError> {
        let mut part = LoginPart::Page;
        match wish {
            LoginWish::End => login.pending().leave(),
            LoginWish::View(wanted) => {
                part = *wanted;
                login.pend().await;
            }
            LoginWish::Input(input) => {
                login.pend().await;
                if login.standing().await.is_some() {
                    let reason = "it is logged in: nothing was typed".to_owned();
                    return Ok(CommandAnswer::Refused { reason });
                }
                if self.steering.epoch().is_none() {
                    let reason = "its worker is cut off from the broker: try again in a moment".to_owned();
                    return Ok(CommandAnswer::Refused { reason });
                }
                self.act(input).await?;
                tokio::time::sleep(INPUT_PAUSE).await;
            }
        }
        let mut scene = login.scene(self.page).await;
        if !scene.logged_in && !matches!(wish, LoginWish::End) {
            self.picture(login, part, &mut scene).await?;
        }
        Ok(CommandAnswer::Login(scene))
    }

    async fn act(&self, input: &LoginInput) -> Result<(), CallError> {
        match input {
            LoginInput::Click { x, y } => self.tab.click_at(*x, *y).await,
            LoginInput::Text(text) => self.tab.type_text(text).await,
            LoginInput::Key(LoginKey::Enter) => self.tab.press("Enter", 13, Some("\r")).await,
            LoginInput::Key(LoginKey::Tab) => self.tab.press("Tab", 9, None).await,
            LoginInput::Key(LoginKey::Backspace) => self.tab.press("Backspace", 8, None).await,
            LoginInput::Key(LoginKey::Escape) => self.tab.press("Escape", 27, None).await,
        }
    }

    async fn picture(
        &self,
        login: &Login,
        mut part: LoginPart,
        scene: &mut LoginScene,
    ) -> Result<(), CallError> {
        let code = login.code();
        scene.has_code = match code {
            Some(code) => self.tab.is_shown(code).await?,
            None => false,
        };
        let shot = match code.filter(|_| part == LoginPart::Code && scene.has_code) {
            Some(code) => self.tab.picture_of(code, LOGIN_PICTURE_BYTES_MAX).await?,
            None => None,
        };
        let shot = match shot {
            Some(shot) => Some(shot),
            None => {
                part = LoginPart::Page;
                self.tab.picture(LOGIN_PICTURE_BYTES_MAX).await?
            }
        };
        scene.picture = shot.map(|Picture { width, height, media_type, base64 }| LoginPicture {
            part,
            width,
            height,
            media_type: media_type.to_owned(),
            base64,
        });
        Ok(())
    }
}
