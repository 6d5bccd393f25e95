// What the page calls its thread, which Isso's answers do not tell. As Isso's own client and server name it: the id is
// data-isso-id or the path, the title is data-title or the first heading.
(() => {
  const section = document.querySelector('#isso-thread');
  if (!section) return null;
  const heading = document.querySelector('h1');
  return {
    id: section.dataset.issoId || location.pathname,
    title: section.dataset.title || (heading && heading.textContent.trim()) || null,
  };
})
