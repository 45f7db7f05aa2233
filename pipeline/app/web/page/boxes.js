/* What was found, drawn on the frame in which it was found. */

import { hue } from "/page/parts.js";

/** Where a picture of `width`×`height` lies in an element that shows it whole, in CSS pixels. */
export function placed(element, width, height) {
  const scale = Math.min(element.clientWidth / width, element.clientHeight / height) || 0;
  return { scale, left: (element.clientWidth - width * scale) / 2, top: (element.clientHeight - height * scale) / 2 };
}

/** `said`: {width, height, detections}, or null to wipe. */
export function draw(canvas, said) {
  const ratio = devicePixelRatio || 1;
  const [width, height] = [Math.round(canvas.clientWidth * ratio), Math.round(canvas.clientHeight * ratio)];
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const pen = canvas.getContext("2d");
  pen.clearRect(0, 0, width, height);
  if (!said?.width || !said.detections) return 0;
  const { scale, left, top } = placed(canvas, said.width, said.height);
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.lineWidth = 2;
  pen.font = "600 12px system-ui, sans-serif";
  pen.textBaseline = "middle";
  let drawn = 0;
  for (const { label, score, box } of said.detections) {
    const [x1, y1, x2, y2] = box ?? [0, 0, said.width, said.height];
    const [x, y] = [left + x1 * scale, top + y1 * scale];
    const colour = `hsl(${hue(label)} 85% 70%)`;
    pen.strokeStyle = colour;
    if (box) pen.strokeRect(x, y, (x2 - x1) * scale, (y2 - y1) * scale);
    const words = `${label} ${Math.round(score * 100)}`;
    const wide = pen.measureText(words).width + 8;
    const above = Math.max(y - 17, top);
    pen.fillStyle = colour;
    const from = Math.max(Math.min(x - 1, canvas.clientWidth - wide), 0);
    pen.fillRect(from, above, wide, 17);
    pen.fillStyle = "#0b0e12";
    pen.fillText(words, from + 4, above + 9);
    drawn += 1;
  }
  pen.setTransform(1, 0, 0, 1, 0, 0);
  return drawn;
}
