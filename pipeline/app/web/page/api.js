/* The interface for programs, as this page uses it. Whoever has no right to something hears of it here once. */

export class Refused extends Error {
  /** `status` 0: nobody answered. `errors` are what the answer says of single places. */
  constructor(status, detail, errors = []) {
    super(detail);
    this.status = status;
    this.errors = errors;
  }

  /** Not there at all: no such part in this configuration. */
  get absent() {
    return [404, 405, 501].includes(this.status);
  }
}

const listeners = new Set();

/** `heard` is called when an answer was 401. */
export function onSignedOut(heard) {
  listeners.add(heard);
}

export async function ask(method, path, body, { signal } = {}) {
  const request = { method, signal, keepalive: method === "DELETE", headers: { Accept: "application/json" }, credentials: "same-origin" };
  if (body !== undefined) {
    request.headers["Content-Type"] = "application/json";
    request.body = JSON.stringify(body);
  }
  let answer;
  try {
    answer = await fetch(path, request);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, String(error.message ?? error));
  }
  if (answer.ok) return answer.status === 204 ? null : answer.json();
  await refuse(answer, path);
}

/** Throws what `answer` says is wrong. */
export async function refuse(answer, path) {
  let said = {};
  try {
    said = await answer.json();
  } catch {
    /* not one of ours */
  }
  if (answer.status === 401 && path !== "/api/session") for (const heard of listeners) heard();
  const detail = typeof said.detail === "string" ? said.detail : `${answer.status} ${answer.statusText}`;
  throw new Refused(answer.status, detail, said.errors ?? []);
}

export const get = (path, options) => ask("GET", path, undefined, options);
export const post = (path, body) => ask("POST", path, body);
export const put = (path, body) => ask("PUT", path, body);
export const patch = (path, body) => ask("PATCH", path, body);
export const remove = (path) => ask("DELETE", path);

/** `?a=1&b=2` of what is there. */
export function query(values) {
  const said = new URLSearchParams();
  for (const [name, value] of Object.entries(values)) {
    if (value !== null && value !== undefined && value !== "") said.set(name, value);
  }
  return said.size ? `?${said}` : "";
}

/** An id is a path: its parts are escaped, its slashes stay. */
export function path(id) {
  return String(id).split("/").map(encodeURIComponent).join("/");
}
