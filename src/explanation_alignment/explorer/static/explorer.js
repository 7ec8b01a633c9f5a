"use strict";
// Everything works without this file; it saves a reload for overlays, draws rectangles in the scatter, copies links.

for (const toggle of document.querySelectorAll("[data-layer]")) {
  toggle.addEventListener("change", () => {
    const chosen = [...document.querySelectorAll("[data-layer]:checked")].map((box) => box.value);
    const layers = chosen.length ? chosen : ["none"];
    const address = (text) => {
      const url = new URL(text, location.href);
      url.searchParams.delete("layer");
      for (const layer of layers) url.searchParams.append("layer", layer);
      return url.pathname + url.search + url.hash;
    };
    for (const image of document.querySelectorAll("img[data-picture]")) image.src = address(image.dataset.picture);
    for (const item of document.querySelectorAll("[data-for]")) item.hidden = !chosen.includes(item.dataset.for);
    for (const link of document.querySelectorAll("main a[href]")) {
      const path = new URL(link.href).pathname;
      if (["/gallery", "/decision", "/compare"].includes(path)) link.setAttribute("href", address(link.href));
    }
    for (const field of document.querySelectorAll("input[name=back]")) field.value = address(field.value);
    history.replaceState(null, "", address(location.href));
  });
}

for (const button of document.querySelectorAll("[data-copy]")) {
  if (!navigator.clipboard) continue;
  button.hidden = false;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(location.href);
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy link"; }, 1500);
  });
}

const selecting = document.querySelector("[data-select]");
if (selecting) {
  const svg = selecting.querySelector("svg.scatter");
  const band = selecting.querySelector("[data-band]");
  const said = selecting.querySelector("[data-selected]");
  const boxes = [...selecting.querySelectorAll("input[type=checkbox]")];
  const points = [...svg.querySelectorAll(".point")];
  const show = () => {
    const chosen = boxes.filter((box) => box.checked);
    points.forEach((point, place) => point.classList.toggle("selected", boxes[place].checked));
    said.textContent = chosen.length ? `${chosen.length} selected` : "none selected: those of all models";
  };
  const place = (event) => {
    const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
    return [at.x, at.y];
  };
  let start = null;
  let drawn = false;
  svg.addEventListener("pointerdown", (event) => {
    if (event.button === 0 && event.pointerType !== "touch") { start = place(event); drawn = false; event.preventDefault(); }
  });
  addEventListener("pointermove", (event) => {
    if (!start) return;
    const [x, y] = place(event);
    if (!drawn && Math.hypot(x - start[0], y - start[1]) < 6) return;
    drawn = true;
    band.hidden = false;
    band.removeAttribute("hidden");
    const box = { x: Math.min(x, start[0]), y: Math.min(y, start[1]), width: Math.abs(x - start[0]), height: Math.abs(y - start[1]) };
    for (const [name, value] of Object.entries(box)) band.setAttribute(name, value);
    points.forEach((point, number) => {
      const [px, py] = [Number(point.dataset.x), Number(point.dataset.y)];
      boxes[number].checked = px >= box.x && px <= box.x + box.width && py >= box.y && py <= box.y + box.height;
    });
    show();
  });
  addEventListener("pointerup", () => { start = null; band.setAttribute("hidden", ""); });
  svg.addEventListener("click", (event) => { if (drawn) { event.preventDefault(); drawn = false; } }, true);
  selecting.addEventListener("change", show);
  show();
}

const computing = document.querySelector("[data-computing]");
if (computing) {
  const look = async () => {
    const answer = await fetch("/computing");
    if (answer.ok && (await answer.json()).waiting === 0) location.reload();
    else setTimeout(look, 1000);
  };
  setTimeout(look, 1000);
}
