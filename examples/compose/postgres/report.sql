INSERT INTO visits DEFAULT VALUES;
SELECT count(*) || ' products, ' || sum(price) || ' in all' FROM products;
SELECT 'visit ' || count(*) FROM visits;
