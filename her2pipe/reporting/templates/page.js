"use strict";
(() => {
  // Tables: each heading becomes a button that sorts by its column; cells without a value stay last.
  const words = new Intl.Collator("en", { numeric: true });

  function key(row, column) {
    const cell = row.cells[column];
    return cell.dataset.sort ?? cell.textContent.trim();
  }

  function sort(table, heads, column) {
    const up = heads[column].getAttribute("aria-sort") !== "ascending";
    heads.forEach((head) => head.removeAttribute("aria-sort"));
    heads[column].setAttribute("aria-sort", up ? "ascending" : "descending");
    const numeric = heads[column].classList.contains("n");
    const compare = (a, b) => (numeric ? a.key - b.key : words.compare(a.key, b.key));
    for (const body of table.tBodies) {
      const plain = [...body.rows].filter((row) => !row.classList.contains("group"));
      const rows = plain.map((row) => ({ row, key: key(row, column) }));
      const full = rows.filter((each) => each.key !== "").sort((a, b) => (up ? 1 : -1) * compare(a, b));
      const empty = rows.filter((each) => each.key === "");
      body.append(...full.concat(empty).map((each) => each.row));
    }
  }

  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = head.textContent.trim();
      button.title = "sort by this column";
      button.addEventListener("click", () => sort(table, heads, column));
      head.replaceChildren(button);
    });
  }

  // A narrow screen shows wide tables one row below the other, each cell beside its heading.
  const narrow = matchMedia("(max-width: 560px)");
  function fold() {
    for (const table of document.querySelectorAll(".scroll > table")) {
      const heads = [...table.tHead.rows[0].cells];
      const folds = narrow.matches && heads.length > 2;
      table.classList.toggle("folded", folds);
      for (const body of folds ? table.tBodies : [])
        for (const cell of body.querySelectorAll("td"))
          cell.dataset.title = heads[cell.cellIndex].textContent.trim();
    }
  }
  narrow.addEventListener("change", fold);
  fold();

  // What scrolls sideways can be reached by keyboard; what does not is no stop on the way.
  const scrolls = new ResizeObserver((entries) => {
    for (const { target } of entries) {
      const wider = target.scrollWidth > target.clientWidth + 1;
      const caption = target.querySelector("caption .here");
      if (wider) target.tabIndex = 0;
      else target.removeAttribute("tabindex");
      if (wider && caption) target.setAttribute("aria-label", caption.textContent.trim());
      else target.removeAttribute("aria-label");
      if (wider) target.setAttribute("role", "group");
      else target.removeAttribute("role");
    }
  });
  for (const box of document.querySelectorAll(".scroll")) scrolls.observe(box);

  // A drawing is saved from the page itself, which may have been sent without its files.
  for (const link of document.querySelectorAll('figure .take a[download$=".svg"]')) {
    const image = link.closest("figure").querySelector("img");
    if (image && image.src.startsWith("data:image/svg")) link.href = image.src;
  }

  // The contents show where the reader is.
  const entries = new Map();
  for (const link of document.querySelectorAll("nav a")) {
    const section = document.getElementById(decodeURIComponent(link.hash.slice(1)));
    if (section) entries.set(section, link);
  }
  const inView = new Set();
  const reading = new IntersectionObserver((changes) => {
    for (const { target, isIntersecting } of changes)
      isIntersecting ? inView.add(target) : inView.delete(target);
    const current = [...entries.keys()].find((section) => inView.has(section));
    for (const [section, link] of entries)
      if (section === current) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
  }, { rootMargin: "-80px 0px -60% 0px" });
  for (const section of entries.keys()) reading.observe(section);

  // A link into what is folded away unfolds it.
  function unfold() {
    const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!target) return;
    for (let box = target.parentElement; box; box = box.parentElement)
      if (box.tagName === "DETAILS") box.open = true;
    target.scrollIntoView();
  }
  addEventListener("hashchange", unfold);
  unfold();

  // Viewers: Bokeh is read, and a slide drawn, only when somebody opens one.
  function library() {
    if (window.Bokeh) return;
    const script = document.createElement("script");
    script.textContent = document.getElementById("bokeh").textContent;
    document.head.append(script);
  }

  // Tissue in pale grey, so that only the map has colour.
  function pale(image) {
    const canvas = document.createElement("canvas");
    canvas.width = image.naturalWidth;
    canvas.height = image.naturalHeight;
    const brush = canvas.getContext("2d");
    brush.drawImage(image, 0, 0);
    const all = brush.getImageData(0, 0, canvas.width, canvas.height);
    const px = all.data;
    for (let i = 0; i < px.length; i += 4) {
      const grey = 0.299 * px[i] + 0.587 * px[i + 1] + 0.114 * px[i + 2];
      px[i] = px[i + 1] = px[i + 2] = 96 + 0.62 * grey;
    }
    brush.putImageData(all, 0, 0);
    return canvas.toDataURL("image/jpeg", 0.85);
  }

  async function draw(box) {
    const metadata = JSON.parse(box.querySelector("script.metadata").textContent);
    const scene = JSON.parse(box.querySelector("script.scene").textContent);
    const image = new Image();
    image.src = metadata.picture;
    await image.decode();
    library();
    const ids = scene.roots.map((root) => root.id);
    const places = [...box.querySelectorAll(".plot")].map((place) => place.id);
    const roots = { [ids[0]]: places[0], [ids[1]]: places[1] };
    await Bokeh.embed.embed_items({ scene }, [{ docid: "scene", roots, root_ids: ids }]);
    const model = Bokeh.documents.at(-1);
    const get = (name) => model.get_model_by_name(name);
    get("slide picture").data = { url: [metadata.picture] };
    get("map picture").data = { url: [pale(image)] };
    const patches = get("patches");
    if (patches) {
      const name = Array.from(patches.data.class, (i) => metadata.names[i]);
      patches.data = { ...patches.data, name };
    }
    control(box, get, model.roots());
    return { x: get("x"), y: get("y"), get };
  }

  function control(box, get, plots) {
    const [x, y] = [get("x"), get("y")];
    const whole = { x: [x.start, x.end], y: [y.start, y.end] };
    const layer = get("layer");
    const move = (range, from, by) =>
      range.setv({ start: range.start + from * (range.end - range.start) * by,
                   end: range.end + from * (range.end - range.start) * by });
    const zoom = (factor) => {
      for (const range of [x, y]) {
        const [middle, half] = [(range.start + range.end) / 2, (range.end - range.start) / 2];
        range.setv({ start: middle - half * factor, end: middle + half * factor });
      }
    };
    const reset = () => {
      x.setv({ start: whole.x[0], end: whole.x[1] });
      y.setv({ start: whole.y[0], end: whole.y[1] });
    };
    const acts = { in: () => zoom(0.7), out: () => zoom(1 / 0.7), whole: reset };
    for (const button of box.querySelectorAll("button[data-act]"))
      button.addEventListener("click", acts[button.dataset.act]);
    const keys = {
      "+": acts.in, "=": acts.in, "-": acts.out, 0: reset,
      ArrowLeft: () => move(x, -1, 0.15), ArrowRight: () => move(x, 1, 0.15),
      ArrowUp: () => move(y, -1, 0.15), ArrowDown: () => move(y, 1, 0.15),
    };
    box.querySelector(".plots").addEventListener("keydown", (event) => {
      if (!(event.key in keys) || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      keys[event.key]();
    });
    for (const radio of box.querySelectorAll("input[type=radio]"))
      radio.addEventListener("change", () => {
        layer.visible = radio.value !== "";
        layer.muted = radio.value === "class";
      });
    const opacity = box.querySelector("input[type=range]");
    const show = () => {
      for (const look of [layer.glyph, layer.muted_glyph])
        look.fill_alpha = { value: opacity.value / 100 };
      opacity.closest("span").querySelector("output").value = `${opacity.value} %`;
    };
    if (opacity) {
      opacity.addEventListener("input", show);
      show();
    }
    box.querySelector("input[type=checkbox]").addEventListener("change", (event) => {
      for (const plot of plots)
        for (const tool of plot.toolbar.tools)
          if (["pan", "box"].includes(tool.name)) tool.active = (tool.name === "box") === event.target.checked;
    });
  }

  for (const box of document.querySelectorAll("details.viewer")) {
    const status = box.querySelector("[role=status]");
    box.addEventListener("toggle", async () => {
      if (!box.open || box.dataset.state) return;
      box.dataset.state = "opening";
      status.textContent = "Opening the slide …";
      try {
        box.view = await draw(box);
        for (const tool of box.querySelectorAll(".tools")) tool.hidden = false;
        status.textContent = "";
        box.dataset.state = "open";
      } catch (error) {
        status.textContent = `This browser cannot show the slide: ${error}`;
        box.dataset.state = "failed";
        console.error(error);
      }
    });
  }
})();
