// Somebody who uses the page once, through Isso's own buttons: writes two comments and edits them, likes another, and
// takes one of the two back.
(async () => {
  if (localStorage.getItem('used')) return;
  localStorage.setItem('used', 'yes');
  const found = async look => {
    for (;;) {
      const seen = look();
      if (seen) return seen;
      await new Promise(resolve => setTimeout(resolve, 50));
    }
  };
  const comments = () => [...document.querySelectorAll('#isso-root .isso-comment')];
  const saying = text => comments().find(comment => comment.querySelector('.isso-text')?.textContent.trim() === text);
  const write = async text => {
    const box = await found(() => document.querySelector('#isso-thread > .isso-postbox'));
    box.querySelector('[name=author]').value = 'Shop';
    box.querySelector('[name=email]').value = 'shop@example.com';
    box.querySelector('textarea').value = text;
    box.querySelector('[type=submit]').click();
    return found(() => saying(text));
  };
  const edit = async (comment, text) => {
    comment.querySelector('a.isso-edit').click();
    const area = await found(() => comment.querySelector('textarea.isso-textarea'));
    area.value = text;
    comment.querySelector('a.isso-edit').click();
    await found(() => saying(text));
  };
  await found(() => comments().length > 0);
  comments()[0].querySelector('a.isso-upvote').click();
  await edit(await write('In the page'), 'In the page, edited');
  const regretted = await write('Regretted');
  await edit(regretted, 'Regretted, edited');
  regretted.querySelector('a.isso-delete').click();
  regretted.querySelector('a.isso-delete').click();
  await found(() => !regretted.isConnected);
})();
