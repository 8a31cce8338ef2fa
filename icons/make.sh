#!/bin/sh
# Draws every picture the app ships from the SVG sources in src/. Needs rsvg-convert and npx (Tauri's own icon tool packs
# .ico and .icns). A tray icon is one shape in one colour, so that the macOS template image is the same file in black.
set -eu
cd "$(dirname "$0")"
black=$(mktemp) && work=$(mktemp -d)
trap 'rm -rf "$black" "$work"' EXIT
echo 'svg { color: #000 }' >"$black"
for state in neutral busy ok attention offline; do
  rsvg-convert --width 64 --height 64 "src/tray-$state.svg" --output "tray/$state.png"
  rsvg-convert --width 44 --height 44 --stylesheet "$black" "src/tray-$state.svg" --output "tray/$state-template.png"
done
rsvg-convert --width 1024 --height 1024 src/app.svg --output "$work/app.png"
npx --yes @tauri-apps/cli@2.12.5 icon "$work/app.png" --output "$work/out" >/dev/null
cp "$work/out/32x32.png" "$work/out/128x128.png" "$work/out/128x128@2x.png" "$work/out/icon.png" "$work/out/icon.ico" "$work/out/icon.icns" .
