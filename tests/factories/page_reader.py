"""Read the page of a study as a browser would, without a browser."""

from html.parser import HTMLParser


class Reader(HTMLParser):
    """What a page requests, its tables as lists of rows, its text, its outline."""

    def __init__(self, text):
        super().__init__()
        self.asked, self.images, self.headings, self.tables, self.policy = [], [], [], [], ""
        self.text, self.captions, self._in = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        if tag not in ("img", "meta", "link", "input", "br"):
            self._in.append(tag)
        self.asked += [values[k] for k in ("src", "srcset", "data", "poster") if k in values]
        if tag in ("link", "iframe", "object", "base", "form"):
            self.asked.append(tag)
        if tag == "a":
            self.asked += [values["href"]] if not values["href"].startswith("#") else []
        if tag == "img":
            self.images.append(values)
        if values.get("http-equiv") == "Content-Security-Policy":
            self.policy = values["content"]
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append("")
        if tag in ("h1", "h2", "h3", "h4"):
            self.headings.append([int(tag[1]), ""])
        if tag in ("caption", "figcaption"):
            self.captions.append("")

    def handle_endtag(self, tag):
        if tag in self._in:
            while self._in.pop() != tag:
                pass

    def handle_data(self, data):
        inside = set(self._in)
        if inside & {"script", "style"}:
            return
        self.text.append(data)
        if inside & {"td", "th"}:
            self.tables[-1][-1][-1] += data
        if inside & {"h1", "h2", "h3", "h4"}:
            self.headings[-1][1] += data
        if inside & {"caption", "figcaption"}:
            self.captions[-1] += data

    def table(self, heading):
        """Return the first table with such a heading, its cells stripped."""
        for rows in self.tables:
            cells = [[cell.strip().replace("\xa0", " ") for cell in row] for row in rows]
            if heading in cells[0]:
                return cells
        raise AssertionError(f"no table with {heading}")
