// The page of the literature service. No framework and no build step: this file is what the browser runs.

const API = "/api/v1/asl/literatures";
const $ = (id) => document.getElementById(id);
const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const number = new Intl.NumberFormat("en");

// --- Talking to the service -----------------------------------------------------------------------------------

/** What the service says went wrong, in its own words; a sentence of ours where it could not speak. */
class Failure extends Error {
  constructor(status, body) {
    const problem = parse(body);
    super(problem?.detail || problem?.title || fallback(status));
    this.status = status;
    this.requestId = problem?.request_id;
  }
}

function parse(body) {
  try { return JSON.parse(body); } catch { return null; }
}

function fallback(status) {
  if (status === 0) return "The service cannot be reached. Check your connection and try again.";
  if (status === 413) return "The file is too large.";
  if (status >= 500) return "The service is not available at the moment. Try again shortly.";
  return `The service refused the request (status ${status}).`;
}

async function call(path, options = {}) {
  let response;
  try {
    response = await fetch(path, { headers: { accept: "application/json" }, ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Failure(0, "");
  }
  const body = await response.text();
  if (!response.ok) throw new Failure(response.status, body);
  return parse(body);
}

/** Sends a file and reports progress, which fetch cannot. Answers the promise and a way to stop. */
function send(path, file, onProgress) {
  const request = new XMLHttpRequest();
  const done = new Promise((resolve, reject) => {
    request.open("POST", path);
    request.setRequestHeader("accept", "application/json");
    request.upload.addEventListener("progress", (event) => onProgress(event.loaded, event.lengthComputable ? event.total : file.size));
    request.addEventListener("load", () => {
      if (request.status >= 200 && request.status < 300) resolve(parse(request.responseText) || {});
      else reject(new Failure(request.status, request.responseText));
    });
    request.addEventListener("error", () => reject(new Failure(0, "")));
    request.addEventListener("abort", () => reject(new DOMException("stopped", "AbortError")));
    const form = new FormData();
    form.append("file", file, file.name);
    request.send(form);
  });
  return { done, stop: () => request.abort() };
}

// --- Small helpers ----------------------------------------------------------------------------------------------

function element(tag, className, ...children) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

function showError(box, error) {
  box.hidden = !error;
  box.replaceChildren();
  if (!error) return;
  box.append(error.message || String(error));
  if (error.requestId) box.append(element("small", "", `Request ${error.requestId}`));
}

function size(bytes) {
  if (bytes < 1024) return `${bytes} B`;
  const units = ["KB", "MB", "GB"];
  let value = bytes;
  let unit = -1;
  do { value /= 1024; unit += 1; } while (value >= 1024 && unit < units.length - 1);
  return `${value.toFixed(value < 10 ? 1 : 0)} ${units[unit]}`;
}

function count(amount, one, many = `${one}s`) {
  return `${number.format(amount)} ${amount === 1 ? one : many}`;
}

let toastTimer;
function toast(text) {
  clearTimeout(toastTimer);
  // A modal dialog covers everything outside it, so the message goes inside the topmost one.
  const open = [...document.querySelectorAll("dialog[open]")].pop();
  (open || document.body).append($("toast"));
  $("toast").textContent = text;
  toastTimer = setTimeout(() => { $("toast").textContent = ""; }, 5000);
}

/** The text with the words of the search marked. */
function marked(text, query) {
  const words = query.split(/\s+/).filter((word) => word.length > 1);
  const parts = document.createDocumentFragment();
  if (!words.length) { parts.append(text); return parts; }
  const pattern = new RegExp(`(${words.map((word) => word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")).join("|")})`, "iu");
  text.split(new RegExp(pattern, "giu")).forEach((part, index) => {
    parts.append(index % 2 ? element("mark", "", part) : part);
  });
  return parts;
}

const isBusy = (record) => ["pending", "running"].includes(record.extraction?.state);

function stateBadge(record) {
  const { state, pages } = record.extraction || { state: "none" };
  switch (state) {
    case "pending": return ["busy", "Waiting to be read"];
    case "running": return ["busy", "Reading the text"];
    case "done": return ["good", count(pages, "page")];
    case "failed": return ["warn", "Text not readable"];
    default: return record.pdf_url ? ["", "PDF stored"] : ["quiet", "No PDF"];
  }
}

function paintBadge(badge, [kind, text]) {
  badge.className = `badge ${kind}`.trim();
  if (badge.textContent !== text) badge.textContent = text;
}

function doiLink(doi) {
  const found = /10\.\d{4,9}\/\S+/.exec(doi || "");
  return found ? `https://doi.org/${encodeURI(found[0])}` : null;
}

// --- The list ---------------------------------------------------------------------------------------------------

const view = { query: "", page: 1, perPage: 20, total: 0, items: [] };
let listRequest;

async function load() {
  listRequest?.abort();
  const request = (listRequest = new AbortController());
  $("list").setAttribute("aria-busy", "true");
  try {
    const asked = new URLSearchParams({ query: view.query, page: view.page, per_page: view.perPage });
    const answer = await call(`${API}?${asked}`, { signal: request.signal });
    const pages = Math.max(1, Math.ceil(answer.total / view.perPage));
    if (view.page > pages) {
      view.page = pages;
      return await load();
    }
    view.total = answer.total;
    view.items = answer.items;
    showError($("list-error"), null);
    paintList();
    remember();
  } catch (error) {
    if (error.name === "AbortError") return;
    if (error.status === 404) {
      // MODULES chose others: nothing on this page would work.
      document.querySelector(".tools").hidden = true;
      error = new Error("This service runs without the module asl, which keeps the literature.");
    }
    showError($("list-error"), error);
    if (!view.items.length) $("total").textContent = "Records";
  }
  if (request === listRequest) $("list").setAttribute("aria-busy", "false");
}

function paintList() {
  const { total, page, perPage, query, items } = view;
  $("total").textContent = query ? `${count(total, "record")} for “${query}”` : count(total, "record");
  $("list").replaceChildren(...items.map((record) => element("li", "", row(record))));
  const pages = Math.max(1, Math.ceil(total / perPage));
  $("pager").hidden = pages === 1;
  $("pager-status").textContent = `Page ${number.format(page)} of ${number.format(pages)}`;
  $("previous").disabled = page <= 1;
  $("next").disabled = page >= pages;
  $("empty").hidden = total > 0;
  $("empty-title").textContent = query ? "Nothing found" : "No records yet";
  $("empty-text").hidden = Boolean(query);
  $("empty-action").textContent = query ? "Clear the search" : "Import Excel";
}

function row(record) {
  const sub = [record.authors, [record.journal, record.year].filter(Boolean).join(", ")].filter(Boolean).join(" · ");
  const badges = element("span", "record-badges");
  const state = element("span", "badge");
  paintBadge(state, stateBadge(record));
  if (record.included) badges.append(element("span", "badge good", "Included"));
  badges.append(state);
  const title = element("span", "record-title", marked(record.title, view.query));
  const button = element("button", "record", title, element("span", "record-sub", marked(sub, view.query)), badges);
  button.type = "button";
  button.dataset.id = record.id;
  button.dataset.testid = "record";
  button.addEventListener("click", () => openDetail(record.id));
  return button;
}

/** One record changed: its row is redrawn where it stands. */
function updateRow(record) {
  const index = view.items.findIndex((item) => item.id === record.id);
  if (index < 0) return;
  view.items[index] = record;
  const old = $("list").querySelector(`[data-id="${CSS.escape(record.id)}"]`);
  old?.replaceWith(row(record));
}

/** The address holds what is shown, so that reload, back and a shared link work. */
function remember(push = false) {
  const address = new URLSearchParams();
  if (view.query) address.set("q", view.query);
  if (view.page > 1) address.set("page", view.page);
  if (view.perPage !== 20) address.set("per_page", view.perPage);
  if (shown) address.set("id", shown);
  const target = address.size ? `/?${address}` : "/";
  if (target === location.pathname + location.search) return;
  history[push ? "pushState" : "replaceState"](null, "", target);
}

function recall() {
  const address = new URLSearchParams(location.search);
  view.query = address.get("q") || "";
  view.page = Math.max(1, Number.parseInt(address.get("page"), 10) || 1);
  const perPage = Number.parseInt(address.get("per_page"), 10);
  view.perPage = [10, 20, 50, 100].includes(perPage) ? perPage : 20;
  $("query").value = view.query;
  $("per-page").value = String(view.perPage);
  return address.get("id");
}

let searchTimer;
function searchSoon(delay) {
  clearTimeout(searchTimer);
  searchTimer = setTimeout(() => {
    const query = $("query").value.trim();
    if (query === view.query) return;
    view.query = query;
    view.page = 1;
    load();
  }, delay);
}

function turn(by) {
  view.page += by;
  load().then(() => {
    $("results").focus({ preventScroll: true });
    window.scrollTo({ top: 0 });
  });
}

// --- One record ---------------------------------------------------------------------------------------------------

let shown = null;
let record = null;
let upload = null;
let watching = 0;

async function openDetail(id, push = true) {
  shown = id;
  record = view.items.find((item) => item.id === id) || null;
  for (const box of ["detail-error", "upload-error"]) showError($(box), null);
  if (!upload) $("upload").hidden = true;
  paintDetail();
  if (!$("detail").open) $("detail").showModal();
  $("detail").querySelector(".sheet-body").scrollTop = 0;
  remember(push);
  await refresh(id);
}

/** Reads the record again, and keeps reading while its text is being extracted. */
async function refresh(id) {
  const watch = (watching += 1);
  for (let round = 0; shown === id && watch === watching; round += 1) {
    try {
      const fresh = await call(`${API}/${encodeURIComponent(id)}`);
      if (shown !== id || watch !== watching) return;
      record = fresh;
      showError($("detail-error"), null);
      paintDetail();
      updateRow(record);
      if (!isBusy(record)) return;
    } catch (error) {
      if (shown !== id || watch !== watching) return;
      showError($("detail-error"), error);
      if (error.status === 404) {
        $("detail-title").textContent = "Record not found";
        return;
      }
    }
    await wait(round < 20 ? 500 : 2000);
  }
}

function paintDetail() {
  const known = record || { title: "Loading…", extraction: { state: "none" } };
  $("detail-title").textContent = known.title;
  $("detail-meta").textContent = [known.journal, known.year].filter(Boolean).join(" · ") || "Record";
  $("detail-authors").textContent = known.authors || "";
  const included = known.included;
  paintBadge($("detail-included"), included === true ? ["good", "Included"] : included === false ? ["", "Excluded"] : ["", ""]);
  const link = doiLink(known.doi);
  $("detail-doi").textContent = known.doi ? known.doi.replace(/^https?:\/\/(dx\.)?doi\.org\//, "doi:") : "";
  if (link) $("detail-doi").href = link; else $("detail-doi").removeAttribute("href");
  $("abstract-section").hidden = !known.abstract;
  $("detail-abstract").textContent = known.abstract || "";
  $("delete").disabled = !record;

  const has = Boolean(known.pdf_url);
  paintBadge($("detail-state"), stateBadge(known));
  $("pdf-facts").textContent = has ? `${size(known.pdf_file_size || 0)} stored` : "";
  $("pdf-facts").hidden = !has;
  const problem = known.extraction?.error;
  $("pdf-error").hidden = !problem;
  const partly = known.extraction?.state === "done";
  $("pdf-error").textContent = problem ? (partly ? `Note: ${problem}.` : `The file is stored, but its text could not be read: ${problem}.`) : "";
  $("open-pdf").hidden = !has;
  if (has) $("open-pdf").href = `${API}/${encodeURIComponent(known.id)}/pdf`; else $("open-pdf").removeAttribute("href");
  $("upload-label").textContent = has ? "Replace the PDF" : "Choose a PDF";
  $("upload-hint").hidden = has;
  $("upload-box").classList.toggle("bare", has);
  $("upload-box").hidden = Boolean(upload);
}

async function uploadPdf(file) {
  if (!file || !record || upload) return;
  const id = record.id;
  showError($("upload-error"), null);
  $("upload-name").textContent = file.name;
  $("upload").hidden = false;
  let spoken = -1;
  const progress = (loaded, total) => {
    const percent = total ? Math.min(100, Math.floor((loaded / total) * 100)) : 0;
    $("upload-progress").value = percent;
    $("upload-percent").textContent = percent < 100 ? `${percent} % of ${size(total)}` : "Storing…";
    // A screen reader hears the quarters, not every percent.
    if (Math.floor(percent / 25) > spoken) {
      spoken = Math.floor(percent / 25);
      $("upload-progress").setAttribute("aria-valuetext", `${percent} percent`);
    }
  };
  progress(0, file.size);
  upload = send(`${API}/${encodeURIComponent(id)}/pdf`, file, progress);
  paintDetail();
  try {
    await upload.done;
    toast(`${file.name} is stored.`);
  } catch (error) {
    if (error.name === "AbortError") toast("The upload was cancelled. Nothing was stored.");
    else showError($("upload-error"), error);
  } finally {
    upload = null;
    $("upload").hidden = true;
    $("pdf-file").value = "";
  }
  if (shown === id) {
    paintDetail();
    await refresh(id);
  }
}

function askDelete() {
  showError($("confirm-error"), null);
  $("confirm-text").textContent = `“${record.title}”${record.pdf_url ? " and its PDF are" : " is"} removed for good.`;
  $("confirm").showModal();
}

async function confirmDelete() {
  const gone = record;
  $("confirm-delete").disabled = true;
  try {
    await call(`${API}/${encodeURIComponent(gone.id)}`, { method: "DELETE" });
    $("confirm").close();
    $("detail").close();
    toast("The record is deleted.");
    await load();
    $("results").focus({ preventScroll: true });
  } catch (error) {
    showError($("confirm-error"), error);
  } finally {
    $("confirm-delete").disabled = false;
  }
}

// --- Import -------------------------------------------------------------------------------------------------------

let importing = null;

function openImport() {
  if (!importing) resetImport();
  $("import").showModal();
}

function resetImport() {
  $("import-box").hidden = false;
  for (const id of ["import-progress", "import-summary", "import-again"]) $(id).hidden = true;
  showError($("import-error"), null);
  finished(false);
}

/** After an import the obvious next step is to close the dialog. */
function finished(yes) {
  $("import-close").textContent = yes ? "Done" : "Close";
  $("import-close").classList.toggle("primary", yes);
}

async function importFile(file) {
  if (!file || importing) return;
  resetImport();
  $("import-box").hidden = true;
  $("import-progress").hidden = false;
  $("import-name").textContent = file.name;
  const bar = $("import-bar");
  const progress = (loaded, total) => {
    const percent = total ? Math.min(100, Math.floor((loaded / total) * 100)) : 0;
    $("import-percent").textContent = percent < 100 ? `${percent} %` : "Reading the rows…";
    // Once everything is sent the bar shows that something goes on, not how far it is.
    if (percent < 100) bar.value = percent; else bar.removeAttribute("value");
  };
  progress(0, file.size);
  importing = send(`${API}/import`, file, progress);
  try {
    paintSummary(await importing.done);
    $("import-again").hidden = false;
    finished(true);
    view.query = "";
    view.page = 1;
    $("query").value = "";
    await load();
  } catch (error) {
    showError($("import-error"), error);
    $("import-box").hidden = false;
  } finally {
    importing = null;
    $("import-progress").hidden = true;
    $("import-file").value = "";
  }
}

function paintSummary(summary) {
  const { count: accepted = 0, inserted = accepted, duplicates = 0, refused = [], refused_count: refusals = refused.length } = summary;
  $("import-summary").hidden = false;
  $("import-count").textContent = `${count(accepted, "record")} read`;
  const facts = [`${number.format(inserted)} new`];
  facts.push(`${number.format(duplicates)} already there`);
  facts.push(refusals ? `${number.format(refusals)} refused` : "none refused");
  $("import-facts").textContent = facts.join(" · ");
  $("refused").hidden = !refused.length;
  const more = refusals > refused.length ? ` (the first ${number.format(refused.length)})` : "";
  $("refused-heading").textContent = `${count(refusals, "row")} refused${more}`;
  $("refused-rows").replaceChildren(...refused.map(({ row: at, reason }) => element("tr", "", element("td", "", String(at)), element("td", "", reason))));
}

// --- Health -------------------------------------------------------------------------------------------------------

const HEALTH = { ok: "Healthy", degraded: "Working, with limits", error: "Not available" };

async function watchHealth() {
  for (;;) {
    if (!document.hidden) {
      let state = "error";
      let text = "Service unreachable";
      try {
        const answer = await (await fetch("/health", { cache: "no-store" })).json();
        state = answer.status in HEALTH ? answer.status : "error";
        text = answer.database === "disconnected" ? "Database disconnected" : HEALTH[state];
      } catch { /* said by the default */ }
      const before = $("health").dataset.state;
      $("health").dataset.state = state;
      if ($("health-text").textContent !== text) $("health-text").textContent = text;
      if (before === "error" && state !== "error") load();
    }
    await wait(5000);
  }
}

// --- Wiring -------------------------------------------------------------------------------------------------------

function accept(box, input, take) {
  input.addEventListener("change", () => take(input.files[0]));
  for (const kind of ["dragenter", "dragover"]) {
    box.addEventListener(kind, (event) => { event.preventDefault(); box.classList.add("over"); });
  }
  for (const kind of ["dragleave", "drop"]) {
    box.addEventListener(kind, () => box.classList.remove("over"));
  }
  box.addEventListener("drop", (event) => { event.preventDefault(); take(event.dataTransfer.files[0]); });
}

// A file dropped beside its box must not replace the page.
for (const kind of ["dragover", "drop"]) window.addEventListener(kind, (event) => event.preventDefault());

$("search").addEventListener("submit", (event) => { event.preventDefault(); searchSoon(0); });
$("query").addEventListener("input", () => searchSoon(250));
$("per-page").addEventListener("change", () => { view.perPage = Number($("per-page").value); view.page = 1; load(); });
$("previous").addEventListener("click", () => turn(-1));
$("next").addEventListener("click", () => turn(1));
$("import-open").addEventListener("click", openImport);
$("import-again").addEventListener("click", resetImport);
$("empty-action").addEventListener("click", () => {
  if (!view.query) return openImport();
  $("query").value = "";
  searchSoon(0);
  $("query").focus();
});
$("upload-cancel").addEventListener("click", () => upload?.stop());
$("delete").addEventListener("click", askDelete);
$("confirm-delete").addEventListener("click", confirmDelete);
$("detail").addEventListener("close", () => { shown = null; watching += 1; remember(); document.body.append($("toast")); });
$("import").addEventListener("close", () => document.body.append($("toast")));
for (const button of document.querySelectorAll("[data-close]")) {
  button.addEventListener("click", () => button.closest("dialog").close());
}
for (const dialog of document.querySelectorAll("dialog")) {
  dialog.addEventListener("click", (event) => { if (event.target === dialog && dialog.id !== "confirm") dialog.close(); });
}
window.addEventListener("beforeunload", (event) => { if (upload || importing) event.preventDefault(); });
window.addEventListener("popstate", async () => {
  const id = recall();
  if (!id && $("detail").open) $("detail").close();
  await load();
  if (id) openDetail(id, false);
});
accept($("upload-box"), $("pdf-file"), uploadPdf);
accept($("import-box"), $("import-file"), importFile);

const linked = recall();
await load();
if (linked) openDetail(linked, false);
watchHealth();
