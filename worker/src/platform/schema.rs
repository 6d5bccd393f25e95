//! The JSON Schema of `platform.toml`, from which editors complete and check it.

use schemars::Schema;
use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use serde_json::Value;

use super::manifest::FileText;

/// The JSON Schema of `platform.toml`, as pretty JSON.
///
/// Of draft 7 and without references: that is what the TOML tools of editors read alike.
#[must_use]
pub fn schema() -> String {
    let settings = SchemaSettings::draft07()
        .with(|settings| settings.inline_subschemas = true)
        .with_transform(RecursiveTransform(without_null))
        .with_transform(RecursiveTransform(in_one_line));
    let schema = settings.into_generator().into_root_schema_for::<FileText>();
    format!("{:#}", schema.to_value())
}

/// TOML has no null: what is optional is left out.
fn without_null(schema: &mut Schema) {
    if let Some(Value::Array(types)) = schema.get_mut("type") {
        types.retain(|kind| kind != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            schema.insert("type".into(), only);
        }
    }
    if let Some(Value::Array(shapes)) = schema.get_mut("anyOf") {
        shapes.retain(|shape| shape != &serde_json::json!({ "type": "null" }));
    }
}

/// Descriptions are doc comments, which are broken into lines for the code alone; formats name types of Rust.
fn in_one_line(schema: &mut Schema) {
    schema.remove("format");
    if let Some(Value::String(text)) = schema.get_mut("description") {
        *text = text.replace('\n', " ");
    }
}
