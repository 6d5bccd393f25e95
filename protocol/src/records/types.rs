//! What a record can be: closed where we decide by it, open where the platform does.

use serde::{Deserialize, Serialize};

/// Which way a comment or message went, seen from the account's owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Written by somebody else.
    Inbound,
    /// Written by the account's owner.
    Outbound,
}

/// An enum whose unknown values are kept as the platform wrote them instead of being refused.
macro_rules! open_enum {
    ($(#[$doc:meta])* $type:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(from = "String", into = "String")]
        pub enum $type {
            $($(#[$vdoc])* $variant,)+
            /// A type that this version does not know, as the platform wrote it.
            Other(String),
        }

        impl $type {
            /// The type as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $text,)+
                    Self::Other(text) => text,
                }
            }
        }

        impl From<String> for $type {
            fn from(text: String) -> Self {
                match text.as_str() {
                    $($text => Self::$variant,)+
                    _ => Self::Other(text),
                }
            }
        }

        impl From<$type> for String {
            fn from(value: $type) -> String {
                match value {
                    $type::Other(text) => text,
                    known => known.as_str().to_owned(),
                }
            }
        }
    };
}

open_enum! {
    /// What a work is.
    ContentType {
        /// A video.
        Video = "video",
        /// One or more pictures.
        Image = "image",
        /// A text.
        Article = "article",
        /// A live stream.
        Live = "live",
    }
}
open_enum! {
    /// Who takes part in a conversation.
    ConversationType {
        /// One counterpart.
        Private = "private",
        /// A group.
        Group = "group",
    }
}
open_enum! {
    /// What a direct message carries.
    MessageType {
        /// Text.
        Text = "text",
        /// A picture.
        Image = "image",
        /// A video.
        Video = "video",
        /// Sound.
        Audio = "audio",
        /// A file.
        File = "file",
        /// A link.
        Link = "link",
        /// A card of the platform, such as a product.
        Card = "card",
    }
}
open_enum! {
    /// What a notice tells of.
    NotificationType {
        /// Somebody liked something.
        Like = "like",
        /// Somebody commented.
        Comment = "comment",
        /// Somebody follows the account.
        Follow = "follow",
        /// Somebody mentioned the account.
        Mention = "mention",
        /// The platform itself speaks.
        System = "system",
    }
}
