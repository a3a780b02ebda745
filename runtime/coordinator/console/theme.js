// Takes the theme that was chosen before the first picture is drawn. Loaded on its own for that.
'use strict';

(function () {
  const root = document.documentElement;

  function stored() {
    try {
      const theme = localStorage.getItem('millstream-theme');
      return theme === 'light' || theme === 'dark' ? theme : 'auto';
    } catch {
      return 'auto'; // Storage is switched off.
    }
  }

  function show(theme) {
    if (theme === 'auto') root.removeAttribute('data-theme');
    else root.setAttribute('data-theme', theme);
  }

  show(stored());
  document.addEventListener('DOMContentLoaded', () => {
    const choice = document.getElementById('theme');
    choice.value = stored();
    choice.addEventListener('change', () => {
      show(choice.value);
      try {
        localStorage.setItem('millstream-theme', choice.value);
      } catch {
        // It holds for this page.
      }
    });
  });
})();
