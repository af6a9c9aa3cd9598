"use strict";
(async () => {
  const get = (id) => document.getElementById(id);
  const canvas = get("slide"), brush = canvas.getContext("2d");
  const slide = await (await fetch("slide.json")).json();
  const VIRIDIS = ["#440154", "#46327e", "#365c8d", "#277f8e", "#1fa187", "#4ac16d", "#a0da39", "#fde725"];
  const tiles = new Map();  // address: image, the latest used last
  const MOST_TILES = 400;
  let scale = 1, left = 0, top = 0;  // screen px per level-0 px; level-0 px at the upper left corner

  slide.layers.forEach((layer, i) => get("layer").add(new Option(`${layer.name}: ${layer.label}`, i)));
  if (slide.layers.length) get("layer").value = "0";

  let waiting = false;
  function redraw() {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; draw(); });
  }

  function tile(level, column, row) {
    const address = `tile/${level}/${column}/${row}.jpg`;
    let image = tiles.get(address);
    if (image) tiles.delete(address);
    else {
      image = new Image();
      image.onload = redraw;
      image.src = address;
    }
    tiles.set(address, image);
    if (tiles.size > MOST_TILES) tiles.delete(tiles.keys().next().value);
    return image.complete && image.naturalWidth ? image : null;
  }

  function level(n) {
    const side = slide.tile * 2 ** n;
    const last = (size, from, extent) => Math.min(Math.ceil(size / side) - 1, Math.floor((from + extent) / side));
    const right = last(slide.width, left, canvas.width / scale), low = last(slide.height, top, canvas.height / scale);
    for (let row = Math.max(0, Math.floor(top / side)); row <= low; row++)
      for (let column = Math.max(0, Math.floor(left / side)); column <= right; column++) {
        const image = tile(n, column, row);
        if (!image) continue;
        const x = column * side, y = row * side;
        brush.drawImage(image, (x - left) * scale, (y - top) * scale,
          Math.min(side, slide.width - x) * scale + 0.5, Math.min(side, slide.height - y) * scale + 0.5);
      }
  }

  const colour = (layer, i) => get("look").value === "class"
    ? layer.colours[layer.classes[i]]
    : VIRIDIS[Math.min(7, Math.floor(Math.max(0, layer.values[i]) * 8))];

  function draw() {
    brush.clearRect(0, 0, canvas.width, canvas.height);
    const wanted = Math.min(slide.levels - 1, Math.max(0, Math.floor(Math.log2(1 / scale))));
    if (wanted < slide.levels - 1) level(slide.levels - 1);  // coarse below, until the fine ones are there
    level(wanted);
    const layer = slide.layers[get("layer").value];
    if (layer) {
      brush.globalAlpha = get("opacity").value / 100;
      layer.x.forEach((x, i) => {
        brush.fillStyle = colour(layer, i);
        brush.fillRect((x - left) * scale, (layer.y[i] - top) * scale, layer.side * scale, layer.side * scale);
      });
      brush.globalAlpha = 1;
    }
    const px = 100 * devicePixelRatio / scale;
    get("scale").textContent = slide.mpp ? `100 px are ${(px * slide.mpp).toPrecision(3)} µm` : `100 px are ${px.toPrecision(3)} level-0 px`;
    get("legend").replaceChildren(...(layer && get("look").value === "class" ? layer.names : []).flatMap((name, i) => {
      const swatch = document.createElement("i");
      swatch.style.background = layer.colours[i];
      return [swatch, name];
    }));
  }

  function whole() {
    scale = Math.min(canvas.width / slide.width, canvas.height / slide.height);
    left = (slide.width - canvas.width / scale) / 2;
    top = (slide.height - canvas.height / scale) / 2;
    redraw();
  }
  function zoom(factor, x = canvas.width / 2, y = canvas.height / 2) {
    const next = Math.min(8, Math.max(scale * factor, 0.5 * Math.min(canvas.width / slide.width, canvas.height / slide.height)));
    left += x / scale - x / next;
    top += y / scale - y / next;
    scale = next;
    redraw();
  }
  function move(x, y) {
    left += x / scale;
    top += y / scale;
    redraw();
  }

  get("in").onclick = () => zoom(1.5);
  get("out").onclick = () => zoom(1 / 1.5);
  get("whole").onclick = whole;
  for (const id of ["layer", "look", "opacity"]) get(id).oninput = redraw;
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoom(Math.exp(-event.deltaY / 500), event.offsetX * devicePixelRatio, event.offsetY * devicePixelRatio);
  }, { passive: false });
  canvas.addEventListener("pointerdown", (event) => canvas.setPointerCapture(event.pointerId));
  canvas.addEventListener("pointermove", (event) => {
    if (event.buttons & 1) move(-event.movementX * devicePixelRatio, -event.movementY * devicePixelRatio);
    const layer = slide.layers[get("layer").value];
    const x = left + event.offsetX * devicePixelRatio / scale, y = top + event.offsetY * devicePixelRatio / scale;
    const i = layer ? layer.x.findIndex((at, k) => x >= at && x < at + layer.side && y >= layer.y[k] && y < layer.y[k] + layer.side) : -1;
    get("under").textContent = i < 0 ? "" : `${layer.label} ${layer.values[i].toFixed(2)}, ${layer.names[layer.classes[i]]}`;
  });
  const step = () => canvas.width / 8;
  const keys = { "+": () => zoom(1.5), "=": () => zoom(1.5), "-": () => zoom(1 / 1.5), 0: whole,
    ArrowLeft: () => move(-step(), 0), ArrowRight: () => move(step(), 0), ArrowUp: () => move(0, -step()), ArrowDown: () => move(0, step()) };
  canvas.addEventListener("keydown", (event) => {
    if (!(event.key in keys) || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    keys[event.key]();
  });
  new ResizeObserver(() => {
    const first = !canvas.dataset.sized;
    canvas.width = canvas.clientWidth * devicePixelRatio;
    canvas.height = canvas.clientHeight * devicePixelRatio;
    canvas.dataset.sized = "yes";
    first ? whole() : redraw();
  }).observe(canvas);
})();
