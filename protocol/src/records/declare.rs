//! How a record is declared: its fields by what becomes of them when two sightings of it are merged.

/// Declares a record: its key, its optional fields (unknown until seen), its lists and maps, and its flags that only ever turn true.
macro_rules! record {
    (
        $(#[$doc:meta])* $type:ident {
            required { $($(#[$rdoc:meta])* $required:ident: $rtype:ty,)* }
            optional { $($(#[$odoc:meta])* $optional:ident: $otype:ty,)* }
            lists { $($(#[$ldoc:meta])* $list:ident,)* }
            $(maps { $($(#[$mdoc:meta])* $map:ident,)* })?
            sticky { $($(#[$sdoc:meta])* $sticky:ident,)* }
        }
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        pub struct $type {
            /// The platform's own id.
            pub id: RecordId,
            $($(#[$rdoc])* pub $required: $rtype,)*
            $($(#[$odoc])* #[serde(default, skip_serializing_if = "Option::is_none")] pub $optional: Option<$otype>,)*
            $($(#[$ldoc])* #[serde(default, skip_serializing_if = "Vec::is_empty")] pub $list: Vec<String>,)*
            $($($(#[$mdoc])* #[serde(default, skip_serializing_if = "Metrics::is_empty")] pub $map: Metrics,)*)?
            $($(#[$sdoc])* #[serde(default, skip_serializing_if = "std::ops::Not::not")] pub $sticky: bool,)*
        }

        impl $type {
            /// A record of which only the required fields are known.
            #[must_use]
            pub fn new(id: RecordId, $($required: $rtype),*) -> Self {
                Self { id, $($required,)* $($optional: None,)* $($list: Vec::new(),)* $($($map: Metrics::default(),)*)? $($sticky: false,)* }
            }

            /// Takes over what `newer` knows. What `newer` does not know stays; a sticky flag never turns back.
            pub fn merge(&mut self, newer: Self) {
                $(self.$required = newer.$required;)*
                $(if newer.$optional.is_some() { self.$optional = newer.$optional; })*
                $(if !newer.$list.is_empty() { self.$list = newer.$list; })*
                $($(self.$map.merge(newer.$map);)*)?
                $(self.$sticky |= newer.$sticky;)*
            }

            /// Names of the fields in which `self` and `other` differ.
            #[must_use]
            pub fn changed_fields(&self, other: &Self) -> Vec<&'static str> {
                let mut changed = Vec::new();
                $(if self.$required != other.$required { changed.push(stringify!($required)); })*
                $(if self.$optional != other.$optional { changed.push(stringify!($optional)); })*
                $(if self.$list != other.$list { changed.push(stringify!($list)); })*
                $($(if self.$map != other.$map { changed.push(stringify!($map)); })*)?
                $(if self.$sticky != other.$sticky { changed.push(stringify!($sticky)); })*
                changed
            }
        }
    };
}
