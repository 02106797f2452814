
'use strict';
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const tools = document.querySelector('.tools'), [query, order] = [tools.querySelector('input'), tools.querySelector('select')];
  const told = tools.querySelector('output'), toggle = tools.querySelector('.all'), chips = all('.filter button');
  const families = all('details.family').map((box, place) => ({
    box, place, part: box.parentNode, name: box.dataset.name.toLowerCase(), images: +box.dataset.images, disk: +box.dataset.disk,
    inner: box.querySelector('details.images'), wasOpen: null,
    rows: all('tbody tr', box).map(row => ({ row, name: row.cells[0].textContent.toLowerCase(), state: row.cells[1].textContent })),
  }));
  const total = families.reduce((sum, family) => sum + family.rows.length, 0);
  const FEW = 200, byName = new Intl.Collator(undefined, { numeric: true });
  [tools, document.querySelector('.keys')].forEach(part => { part.hidden = false; });

  // Shows only the images whose names have all words of the search, in the chosen states; of few images, with their families open.
  function filter() {
    const words = query.value.toLowerCase().split(/\s+/).filter(Boolean);
    const states = new Set(chips.filter(chip => chip.getAttribute('aria-pressed') === 'true').map(chip => chip.value));
    const active = words.length > 0 || states.size > 0;
    let found = 0;
    for (const family of families) {
      const named = words.every(word => family.name.includes(word));
      family.shown = 0;
      for (const { row, name, state } of family.rows) {
        const fits = (!states.size || states.has(state)) && (named || words.every(word => name.includes(word)));
        row.hidden = !fits;
        family.shown += fits;
      }
      family.box.hidden = active && !family.shown;
      found += family.shown;
    }
    for (const family of families) {
      const boxes = [family.box, ...(family.inner ? [family.inner] : [])];
      family.wasOpen ??= boxes.map(box => box.open);
      boxes.forEach((box, number) => { box.open = active ? found <= FEW && family.shown > 0 || family.wasOpen[number] : family.wasOpen[number]; });
      if (!active) family.wasOpen = null;
      all('.tree', family.box).forEach(table => table.classList.toggle('flat', active || table.querySelector('[aria-sort]') !== null));
    }
    all('.part').forEach(part => { part.hidden = !all('.family', part).some(box => !box.hidden); });
    told.textContent = active ? `${found.toLocaleString('en')} of ${total.toLocaleString('en')} images` : '';
  }

  function arrange() {
    const keys = {
      worst: (a, b) => a.place - b.place, name: (a, b) => byName.compare(a.name, b.name),
      images: (a, b) => b.images - a.images, disk: (a, b) => b.disk - a.disk,
    };
    for (const { part, box } of [...families].sort(keys[order.value])) part.append(box);
  }

  // Sorts a table by a column: up, down, and at the third time in the order of the tree again.
  function sortBy(head) {
    const table = head.closest('table'), body = table.tBodies[0], column = head.cellIndex;
    const next = { ascending: 'descending', descending: null }[head.getAttribute('aria-sort')] ?? (head.hasAttribute('aria-sort') ? null : 'ascending');
    all('th', table).forEach(other => other.removeAttribute('aria-sort'));
    if (next) head.setAttribute('aria-sort', next);
    const rows = families.find(family => family.box.contains(table)).rows.map(({ row }) => row);
    const value = row => row.cells[column].dataset.v, sign = next === 'descending' ? -1 : 1;
    const compare = (a, b) => value(a) === undefined
      ? byName.compare(a.cells[column].textContent, b.cells[column].textContent) : value(a) - value(b);
    body.append(...(next ? rows.sort((a, b) => sign * compare(a, b)) : rows));
    table.classList.toggle('flat', next !== null || told.textContent !== '');
  }
  for (const head of all('.tree th')) {
    const button = document.createElement('button');
    button.type = 'button';
    button.textContent = head.textContent;
    button.addEventListener('click', () => sortBy(head));
    head.replaceChildren(button);
  }

  function reveal(element) {
    for (let box = element; box; box = box.parentElement) if (box.tagName === 'DETAILS') box.open = true;
  }
  function jump() {
    const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (target) { reveal(target); target.scrollIntoView(); }
  }
  function step(by, wrong) {
    const there = families.map(({ box }) => box).filter(box => !box.hidden && (!wrong || box.classList.contains('bad')));
    there.sort((a, b) => a.compareDocumentPosition(b) & 4 ? -1 : 1);
    const at = there.indexOf(document.activeElement?.closest?.('.family'));
    const next = there[wrong ? (at + 1) % there.length : at + by];
    if (next) { next.firstElementChild.focus(); next.scrollIntoView({ block: 'nearest' }); }
  }
  function showAll() {
    query.value = '';
    chips.forEach(chip => chip.setAttribute('aria-pressed', 'false'));
    filter();
  }

  let soon;
  query.addEventListener('input', () => { clearTimeout(soon); soon = setTimeout(filter, 120); });
  tools.addEventListener('submit', event => event.preventDefault());
  chips.forEach(chip => chip.addEventListener('click', () => {
    chip.setAttribute('aria-pressed', String(chip.getAttribute('aria-pressed') !== 'true'));
    filter();
  }));
  order.addEventListener('change', arrange);
  toggle.addEventListener('click', () => {
    const open = toggle.textContent === 'open all';
    families.forEach(({ box }) => { box.open = open; });
    toggle.textContent = open ? 'close all' : 'open all';
  });
  addEventListener('hashchange', jump);
  addEventListener('keydown', event => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === 'Escape') { showAll(); document.activeElement.blur(); }
    if (/^(INPUT|SELECT)$/.test(event.target.tagName)) return;
    const act = { '/': () => query.focus(), j: () => step(1), k: () => step(-1), n: () => step(1, true) }[event.key];
    if (act) { event.preventDefault(); act(); }
  });

  // A dot of a family's picture leads to its row.
  const SIDE = 10, LEVELS = 6;
  all('.crowd').forEach(picture => picture.addEventListener('click', event => {
    const area = picture.getBoundingClientRect(), scale = picture.viewBox.baseVal.width / area.width;
    const column = Math.floor((event.clientX - area.left) * scale / SIDE), line = Math.floor((event.clientY - area.top) * scale / SIDE);
    const family = families.find(({ box }) => box.contains(picture));
    const depth = +picture.dataset.depth, depthOf = ({ row }) => Math.min(row.cells[0].querySelectorAll('i:not(.d)').length, LEVELS);
    const found = family.rows.filter(one => depthOf(one) === depth)[line * (picture.viewBox.baseVal.width / SIDE) + column];
    if (!found) return;
    all('.found').forEach(row => row.classList.remove('found'));
    const { row } = found;
    row.classList.add('found');
    reveal(row);
    row.scrollIntoView({ block: 'center' });
  }));

  addEventListener('beforeprint', () => families.forEach(({ box }) => {
    box.dataset.closed = box.open ? '' : '1';
    if (box.classList.contains('bad') && !box.hidden) box.open = true;
  }));
  addEventListener('afterprint', () => families.forEach(({ box }) => { if (box.dataset.closed) box.open = false; }));

  // What the reader sees stays when a live page is loaded anew.
  function keep() {
    const pressed = chips.filter(chip => chip.getAttribute('aria-pressed') === 'true').map(chip => chip.value);
    const open = all('details.family[open], details.family[open] > .images[open]').map(box => box.id || `${box.parentNode.id} > .images`);
    history.replaceState({ query: query.value, pressed, order: order.value, open, y: scrollY, typing: document.activeElement === query }, '');
  }
  function restore({ query: text, pressed, order: by, open, y, typing }) {
    families.forEach(({ box }) => { box.open = false; });
    open.forEach(id => { const box = document.querySelector(`#${id}`); if (box) box.open = true; });
    query.value = text;
    order.value = by;
    chips.forEach(chip => chip.setAttribute('aria-pressed', String(pressed.includes(chip.value))));
    arrange();
    filter();
    if (typing) query.focus();
    scrollTo(0, y);
  }
  async function ask() {
    const said = document.querySelector('.live');
    try {
      const answer = await (await fetch('version', { cache: 'no-store' })).json();
      said.textContent = answer.problem ? `live, but it could not be looked at again: ${answer.problem}` : `live: looked at last at ${answer.made}`;
      if (String(answer.version) !== document.body.dataset.version) { keep(); location.reload(); }
    } catch {
      said.textContent = 'no longer live: the server does not answer';
    }
  }
  if (document.body.dataset.version) {
    if (history.state) restore(history.state);
    history.scrollRestoration = 'manual';
    ask();
    setInterval(() => { if (!document.hidden) ask(); }, 2000);
  }
  jump();
})();
