/* Signs, drawn with one stroke. They say nothing by themselves: a word stands beside each, or is its button's name. */

import { svg } from "/page/dom.js";

const PATHS = {
  live: "M8 4a4 4 0 1 0 0 8a4 4 0 0 0 0-8z",
  connecting: "M8 3a5 5 0 1 1-4.500 2.800",
  warn: "M8 2.500 14 13.500H2zM8 6.500v3.200M8 11.600v.2",
  ended: "M4 4h8v8H4z",
  failed: "M4 4l8 8M12 4l-8 8",
  paused: "M5.500 3.500v9M10.500 3.500v9",
  pause: "M5.500 3.500v9M10.500 3.500v9",
  play: "M5 3.200v9.600L12.500 8z",
  remove: "M3 4.500h10M6.500 4.300V2.700h3v1.600M4.500 4.500l.6 8.800h5.800l.6-8.800",
  add: "M8 3v10M3 8h10",
  camera: "M2 5h7.500v6.500H2zM9.500 7.300 14 5.200v6.100l-4.500-2.100",
  full: "M3 6V3h3M10 3h3v3M13 10v3h-3M6 13H3v-3",
  back: "M9.500 3.500 5 8l4.500 4.500",
  close: "M4 4l8 8M12 4l-8 8",
  theme: "M8 2.500a5.500 5.500 0 1 0 0 11zM8 2.500a5.500 5.500 0 0 1 0 11",
  leave: "M9 3H3.500v10H9M7 8h6.500M11 5.500 13.500 8 11 10.500",
  flag: "M4 14V2.500h8L10 6l2 3.500H4",
  settings: "M3 5h6M12 5h1M3 11h1M7 11h6M10.500 3.500v3M5.500 9.500v3",
  yes: "M3 8.500 6.500 12 13 4.500",
  wall: "M2.500 3h5v4.500h-5zM9 3h4.500v4.500H9zM2.500 9h5v4h-5zM9 9h4.500v4H9z",
  events: "M2.500 4h7M5 8h8.500M3.500 12h5",
  flow: "M2 8h3M11 8h3M5 5.500h6v5H5z",
  promise: "M8 2 13 4v4c0 3.200-2.200 5.200-5 6-2.800-.8-5-2.800-5-6V4zM5.800 8l1.600 1.600L10.400 6.500",
  review: "M3 3h10v10H3zM5.500 8l1.700 1.800L10.700 6",
};

export function icon(name) {
  return svg(
    "svg",
    { class: "icon", viewBox: "0 0 16 16", "aria-hidden": "true", focusable: "false" },
    svg("path", { d: PATHS[name] ?? PATHS.live }),
  );
}
