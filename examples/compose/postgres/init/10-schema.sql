CREATE TABLE products (name text PRIMARY KEY, price integer NOT NULL);
CREATE TABLE visits (at timestamptz NOT NULL DEFAULT now());
