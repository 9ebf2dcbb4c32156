//! The image that the operator has a component run: `repository/image:version`.

use serde_json::{Map, Value};

use super::{Component, DEFAULT_VERSION};

/// What stands for an image that is the operator's to choose.
const OWN: &str = "<default>";

/// The reference that the operator composes of its three parts. An empty one is not given.
pub fn compose(repository: Option<&str>, image: Option<&str>, version: Option<&str>) -> String {
    let given = |part: Option<&str>| part.filter(|text| !text.is_empty()).map(str::to_owned);
    let image = given(image).unwrap_or_else(|| OWN.to_owned());
    let version = given(version).unwrap_or_else(|| DEFAULT_VERSION.to_owned());
    match given(repository) {
        Some(repository) => format!("{repository}/{image}:{version}"),
        None => format!("{image}:{version}"),
    }
}

/// The images that a component runs: one, or one for each of its containers. None where nothing is said of them.
pub fn images(component: Component<'_>) -> Vec<String> {
    let own = component.fields;
    let containers = component.containers();
    let mut all: Vec<String> = match containers.as_slice() {
        [] => image(own, None).into_iter().collect(),
        // A field of the component wins over the container's own.
        several => several.iter().filter_map(|(_, container)| image(own, Some(container))).collect(),
    };
    all.dedup();
    all
}

fn image(own: &Map<String, Value>, container: Option<&Map<String, Value>>) -> Option<String> {
    let field = |name| own.get(name).or_else(|| container?.get(name)).and_then(Value::as_str);
    let parts = [field("repository"), field("image"), field("version")];
    parts.iter().any(Option::is_some).then(|| compose(parts[0], parts[1], parts[2]))
}
