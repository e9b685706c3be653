//! The picture that a page shows.

use crate::Standing;

/// The badge as SVG: its state in words and colours, and nothing that came from anybody, so that there is nothing to escape.
pub fn picture(standing: Standing) -> String {
    let (words, colour, mark) = match standing {
        Standing::Valid => ("verified", "#0a7d38", "M7 12.5l3.2 3.2L17 9"),
        Standing::Revoked => ("revoked", "#b3261e", "M8 8l8 8M16 8l-8 8"),
        Standing::Withdrawn => ("withdrawn", "#6b6b6b", "M8 12h8"),
        Standing::ContentDeleted => ("no longer kept", "#6b6b6b", "M8 12h8"),
        Standing::Superseded => ("superseded", "#8a6100", "M12 7v6M12 16v.5"),
    };
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"220\" height=\"24\" viewBox=\"0 0 220 24\" role=\"img\" \
         aria-label=\"Content Credentials: {words}\"><title>Content Credentials: {words}</title>\
         <rect width=\"220\" height=\"24\" rx=\"4\" fill=\"{colour}\"/>\
         <path d=\"{mark}\" fill=\"none\" stroke=\"#fff\" stroke-width=\"2\" stroke-linecap=\"round\"/>\
         <text x=\"26\" y=\"16\" fill=\"#fff\" font-family=\"sans-serif\" font-size=\"11\">Content Credentials: {words}</text></svg>"
    )
}
