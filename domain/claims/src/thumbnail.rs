//! Thumbnails for manifests: decoded at reduced scale where the format allows, never upscaled.

use crate::media::Media;
use fast_image_resize::{FilterType, ResizeAlg, ResizeOptions, Resizer};
use image::{DynamicImage, ImageDecoder, ImageReader, Limits, metadata::Orientation};
use std::io::{BufRead, Cursor, Seek};

/// The longer edge, in pixels, at most.
pub const LONG_EDGE: u32 = 512;
const QUALITY: u8 = 80;
const MAX_EDGE: u32 = 32_768;
const MAX_ALLOCATION: u64 = 256 << 20;

/// A thumbnail.
#[derive(Debug, Clone)]
pub struct Thumbnail {
    /// `image/jpeg` or `image/png` (for transparency).
    pub mime: &'static str,
    /// The encoded image.
    pub bytes: Vec<u8>,
}

/// Makes a thumbnail, or says that this content has none: not an image, a format we do not decode, or broken pixels.
pub fn make(media: Media, source: impl BufRead + Seek, orientation: u16) -> Option<Thumbnail> {
    let image = match media.mime {
        "image/jpeg" => decode_jpeg(source)?,
        "image/png" | "image/gif" | "image/webp" | "image/tiff" => decode_other(source)?,
        _ => return None,
    };
    let mut image = shrink(image)?;
    if let Some(turn) = u8::try_from(orientation).ok().and_then(Orientation::from_exif) {
        image.apply_orientation(turn);
    }
    encode(&image)
}

/// JPEG is scaled by whole factors while its blocks are transformed, which skips most of the work.
fn decode_jpeg(source: impl BufRead + Seek) -> Option<DynamicImage> {
    let mut decoder = jpeg_decoder::Decoder::new(source);
    decoder.set_max_decoding_buffer_size(MAX_ALLOCATION as usize);
    decoder.read_info().ok()?;
    let info = decoder.info()?;
    // Progressive images are decoded through coefficients at full size.
    let megapixels = if info.coding_process == jpeg_decoder::CodingProcess::DctSequential { 400 } else { 40 };
    if u64::from(info.width) * u64::from(info.height) > megapixels * 1_000_000 {
        return None;
    }
    let factor = f64::from(LONG_EDGE) / f64::from(info.width.max(info.height));
    let target = |edge: u16| (f64::from(edge) * factor).ceil().clamp(1.0, f64::from(u16::MAX)) as u16;
    let (width, height) = decoder.scale(target(info.width), target(info.height)).ok()?;
    let pixels = decoder.decode().ok()?;
    let (width, height) = (u32::from(width), u32::from(height));
    match info.pixel_format {
        jpeg_decoder::PixelFormat::L8 => image::GrayImage::from_raw(width, height, pixels).map(DynamicImage::ImageLuma8),
        jpeg_decoder::PixelFormat::RGB24 => image::RgbImage::from_raw(width, height, pixels).map(DynamicImage::ImageRgb8),
        // 16-bit and CMYK JPEG are rare and would need colour management.
        _ => None,
    }
}

fn decode_other(source: impl BufRead + Seek) -> Option<DynamicImage> {
    let mut reader = ImageReader::new(source).with_guessed_format().ok()?;
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_EDGE);
    limits.max_image_height = Some(MAX_EDGE);
    limits.max_alloc = Some(MAX_ALLOCATION);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().ok()?;
    let _ = decoder.icc_profile();
    DynamicImage::from_decoder(decoder).ok()
}

fn shrink(image: DynamicImage) -> Option<DynamicImage> {
    let (width, height) = (image.width(), image.height());
    let longest = width.max(height);
    let image = if image.color().has_alpha() {
        DynamicImage::ImageRgba8(image.into_rgba8())
    } else if matches!(image, DynamicImage::ImageLuma8(_)) {
        image
    } else {
        DynamicImage::ImageRgb8(image.into_rgb8())
    };
    if longest <= LONG_EDGE {
        return Some(image);
    }
    let scaled = |edge: u32| ((u64::from(edge) * u64::from(LONG_EDGE) / u64::from(longest)) as u32).max(1);
    let mut small = DynamicImage::new(scaled(width), scaled(height), image.color());
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear));
    Resizer::new().resize(&image, &mut small, &options).ok()?;
    Some(small)
}

fn encode(image: &DynamicImage) -> Option<Thumbnail> {
    if image.color().has_alpha() {
        let mut bytes = Vec::new();
        image.write_to(&mut Cursor::new(&mut bytes), image::ImageFormat::Png).ok()?;
        return Some(Thumbnail { mime: "image/png", bytes });
    }
    let (width, height) = (u16::try_from(image.width()).ok()?, u16::try_from(image.height()).ok()?);
    let color =
        if matches!(image, DynamicImage::ImageLuma8(_)) { jpeg_encoder::ColorType::Luma } else { jpeg_encoder::ColorType::Rgb };
    let mut bytes = Vec::with_capacity(64 << 10);
    jpeg_encoder::Encoder::new(&mut bytes, QUALITY).encode(image.as_bytes(), width, height, color).ok()?;
    Some(Thumbnail { mime: "image/jpeg", bytes })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::by_mime;

    fn sample(width: u32, height: u32, format: image::ImageFormat, alpha: bool) -> Vec<u8> {
        let mut bytes = Vec::new();
        let image = if alpha { DynamicImage::new_rgba8(width, height) } else { DynamicImage::new_rgb8(width, height) };
        image.write_to(&mut Cursor::new(&mut bytes), format).unwrap();
        bytes
    }

    fn size(thumbnail: &Thumbnail) -> (u32, u32) {
        let image = image::load_from_memory(&thumbnail.bytes).unwrap();
        (image.width(), image.height())
    }

    #[test]
    fn shrinks_and_never_grows() {
        let jpeg = sample(1200, 800, image::ImageFormat::Jpeg, false);
        let small = sample(40, 30, image::ImageFormat::Png, false);
        let make = |mime: &str, bytes: &[u8], orientation| make(by_mime(mime), Cursor::new(bytes), orientation).unwrap();
        assert_eq!(size(&make("image/jpeg", &jpeg, 1)), (512, 341));
        assert_eq!(size(&make("image/jpeg", &jpeg, 6)), (341, 512));
        assert_eq!(size(&make("image/png", &small, 1)), (40, 30));
        assert_eq!(make("image/png", &sample(600, 600, image::ImageFormat::Png, true), 1).mime, "image/png");
    }

    #[test]
    fn a_decompression_bomb_has_no_thumbnail() {
        // A PNG header that claims 60000 x 60000 pixels.
        let mut png = sample(8, 8, image::ImageFormat::Png, false);
        png[16..20].copy_from_slice(&60_000u32.to_be_bytes());
        png[20..24].copy_from_slice(&60_000u32.to_be_bytes());
        assert!(make(by_mime("image/png"), Cursor::new(&png), 1).is_none());
        assert!(make(by_mime("image/jpeg"), Cursor::new(b"\xff\xd8\xff\xd9"), 1).is_none());
    }
}
