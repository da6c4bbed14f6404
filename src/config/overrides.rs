//! Variables that stand in for single values of the file: `SURGEGATE__SPOOL__DIRECTORY`.

use super::interpolate::Environment;
use super::keys::{ROWS, Shape};
use super::report::{Place, Report};
use super::tree::{Entry, Node, Origin, Scalar, Value, merge};

const PREFIX: &str = "SURGEGATE__";

/// Lays each variable that names a single value over the tree. Lists have no such names.
pub(super) fn lay_over(root: &mut Node, report: &mut Report, environment: &Environment) {
    for row in ROWS {
        if row.path.contains("[]") || matches!(row.shape, Some(Shape::Section | Shape::Sections(..))) {
            continue;
        }
        let name = format!("{PREFIX}{}", row.path.to_uppercase().replace('.', "__"));
        let Some(text) = environment(&name) else { continue };
        let source = report.add_source(format!("environment variable {name}"), "");
        let place = Place { source, ..Place::default() };
        let scalar = Scalar { text, plain: true, origin: Origin::Environment };
        let mut node = Node { place, value: Value::Scalar(scalar) };
        for key in row.path.rsplit('.') {
            node = Node { place, value: Value::Map(vec![Entry { key: key.to_owned(), place, value: node }]) };
        }
        merge(root, node);
    }
}
