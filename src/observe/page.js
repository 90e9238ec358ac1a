'use strict';
// Keeps the page current in place: rows keep their elements, the window its scroll position.
(() => {
  const live = document.getElementById('live');
  const find = document.getElementById('find');
  const stale = document.getElementById('stale');
  const EVERY_MS = 3000;

  const localise = (root) => {
    for (const time of root.querySelectorAll('time[datetime]')) {
      const at = new Date(time.dateTime);
      if (!Number.isNaN(at.getTime())) {
        time.title = time.dateTime;
        time.textContent = at.toLocaleString(undefined, {dateStyle: 'medium', timeStyle: 'medium'});
      }
    }
  };

  const filter = () => {
    const wanted = find ? find.value.trim().toLowerCase() : '';
    for (const row of live.querySelectorAll('[data-key]')) {
      row.hidden = wanted !== '' && !row.dataset.key.toLowerCase().includes(wanted);
    }
  };

  const takeAttributes = (old, fresh) => {
    for (const {name} of [...old.attributes]) {
      if (!fresh.hasAttribute(name)) old.removeAttribute(name);
    }
    for (const {name, value} of fresh.attributes) {
      if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    }
  };

  const merge = (old, fresh) => {
    if (old.isEqualNode(fresh)) return;
    const parts = [...old.children];
    const news = [...fresh.children];
    if (fresh.hasAttribute('data-list')) {
      takeAttributes(old, fresh);
      const known = new Map(parts.map((row) => [row.dataset.key, row]));
      let place = old.firstElementChild;
      for (const row of news) {
        const kept = known.get(row.dataset.key);
        known.delete(row.dataset.key);
        if (kept) merge(kept, row);
        const next = kept || document.importNode(row, true);
        if (next === place) place = place.nextElementSibling;
        else old.insertBefore(next, place);
      }
      for (const gone of known.values()) gone.remove();
      return;
    }
    const same = old.tagName === fresh.tagName && parts.length === news.length && parts.length > 0;
    if (same && parts.every((part, i) => part.tagName === news[i].tagName) && !old.closest('svg') &&
        [...fresh.childNodes].every((n) => n.nodeType === 1 || n.textContent.trim() === '')) {
      takeAttributes(old, fresh);
      parts.forEach((part, i) => merge(part, news[i]));
      return;
    }
    old.replaceWith(document.importNode(fresh, true));
  };

  const mergeAll = (fresh) => {
    const parts = [...live.children];
    const news = [...fresh.children];
    if (parts.length === news.length && parts.every((part, i) => part.tagName === news[i].tagName)) {
      parts.forEach((part, i) => merge(part, news[i]));
    } else {
      live.replaceChildren(...[...fresh.childNodes].map((node) => document.importNode(node, true)));
    }
  };

  const refresh = async () => {
    let pause = EVERY_MS;
    if (!document.hidden) {
      const begun = performance.now();
      try {
        const answer = await fetch(location.href, {cache: 'no-store', credentials: 'same-origin'});
        if (!answer.ok) throw new Error(`status ${answer.status}`);
        const page = new DOMParser().parseFromString(await answer.text(), 'text/html');
        const fresh = page.getElementById('live');
        if (!fresh) throw new Error('not the page of lsfast');
        localise(fresh);
        const {scrollX, scrollY} = window;
        mergeAll(fresh);
        filter();
        if (window.scrollY !== scrollY) window.scrollTo({left: scrollX, top: scrollY, behavior: 'instant'});
        document.title = page.title;
        stale.hidden = true;
        live.dataset.refreshed = String(Number(live.dataset.refreshed || 0) + 1);
      } catch (e) {
        stale.textContent = `lsfast does not answer (${e.message}): this page shows the last known state.`;
        stale.hidden = false;
      }
      // A page of many databases is fetched less often.
      pause = Math.max(pause, 20 * (performance.now() - begun));
    }
    setTimeout(refresh, pause);
  };

  document.addEventListener('click', async (event) => {
    const button = event.target.closest('button[data-copy]');
    if (!button) return;
    try {
      await navigator.clipboard.writeText(button.dataset.copy);
      button.textContent = 'Copied';
    } catch {
      // Without HTTPS only a page of this machine may copy: the command is selected instead.
      const code = button.closest('tr').querySelector('code');
      getSelection().selectAllChildren(code);
      button.textContent = 'Selected';
    }
    setTimeout(() => { button.textContent = 'Copy'; }, 1500);
  });
  if (find) {
    find.closest('.find').hidden = false;
    find.addEventListener('input', filter);
  }
  localise(document);
  setTimeout(refresh, EVERY_MS);
})();
